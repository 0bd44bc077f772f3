"""Octets to text by the names that charsets have in mail (RFC 2046 §4.1.2).

Only names from a fixed table are looked up: Python's codec registry would search the disk for each unknown name and
remember it for ever, and offers codecs that are no charsets.

What people read is decoded as well as can be. What is compared is text or, if its charset is unknown or it is not valid
in it, octets (RFC 5255 §4.6).
"""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder
from encodings.aliases import aliases

PIECE_OCTETS = 256 * 1024
"""That are decoded in one call."""

_NOT_CHARSETS = frozenset(
    (
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "mbcs",
        "quopri_codec",
        "rot_13",
        "uu_codec",
        "zlib_codec",
    )
)
"""Of the codecs in Python's table of aliases: what is no charset, or on Windows only."""

# What is called by the first name is in practice often the second, its superset.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932"}

# Missing in Python's table of aliases, or called otherwise by mail programs.
_UNALIASED = ("koi8_u", "koi8_t", "cp720", "cp737", "cp874", "mac_croatian", "mac_romanian")
_EXTRA = {
    "utf8mb4": "utf_8",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "x_sjis": "cp932",
    "x_gbk": "gb18030",
    "x_mac_roman": "mac_roman",
    "windows_874": "cp874",
    "windows_949": "cp949",
    "windows_936": "gb18030",
    "x_windows_949": "cp949",
}
# Who leaves the byte order mark out means big-endian (RFC 2781 §4.3).
_WITHOUT_MARK = {
    "utf_16": (2, (BOM_UTF16_BE, BOM_UTF16_LE), "utf_16_be"),
    "utf_32": (4, (BOM_UTF32_BE, BOM_UTF32_LE), "utf_32_be"),
}
_UTF8 = (b"utf-8", b"UTF-8")
"""How nearly all mail has it."""
_TO_UNDERSCORE = str.maketrans("-:. ", "____")


def _codec_table() -> dict[str, str]:
    codecs = {name: codec for name, codec in aliases.items() if codec not in _NOT_CHARSETS}
    codecs |= {codec: codec for codec in (*codecs.values(), *_UNALIASED)} | _EXTRA
    return {name: _SUPERSETS.get(codec, codec) for name, codec in codecs.items()}


_CODECS = _codec_table()


def decode_guess(octets: bytes) -> str:
    """As UTF-8 or else, octet for octet, as Latin-1."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode_charset(octets: bytes, charset: bytes) -> str:
    """As `charset` (any case), with U+FFFD for what is invalid in it. An unknown charset is guessed, and so is
    US-ASCII, which is what broken senders say about anything."""
    codec = _codec(octets, charset) or "ascii"
    if codec == "ascii":
        return decode_guess(octets)
    try:
        return _decode(octets, codec, "replace")
    except (LookupError, ValueError):
        return decode_guess(
            octets
        )  # what a codec cannot do must not keep a message from being read


def decode_valid(octets: bytes, charset: bytes) -> str:
    """As `charset` (any case; b"": none was named, and it is guessed). Raises ValueError if that is unknown, or if they
    are not valid in it (RFC 5255 §4.6 c)."""
    if charset in _UTF8:
        return octets.decode()
    if not charset:
        return decode_guess(octets)
    codec = _codec(octets, charset)
    if codec is None:
        raise ValueError("an unknown charset")
    try:
        return _decode(octets, codec, "strict")
    except LookupError as error:
        raise ValueError(*error.args) from error


def decode_searched(octets: bytes, charset: bytes) -> str:
    """What is searched: the text, or, if there is none to be had, what people would read, and behind that all that is
    valid UTF-8 in the octets, in which a search by i;octet would find no more (RFC 5255 §4.6 c)."""
    try:
        return decode_valid(octets, charset)
    except ValueError:
        return with_octets(decode_charset(octets, charset), octets)


def with_octets(read: str, octets: bytes) -> str:
    """What people read, and what was not read so."""
    other = _decode(octets, "utf_8", "replace")
    return read if read == other else f"{read}\n{other}"


def _codec(octets: bytes, charset: bytes) -> str | None:
    key = charset.decode("ascii", "replace").lower().translate(_TO_UNDERSCORE)
    codec = _CODECS.get(key)
    if codec in _WITHOUT_MARK:
        size, marks, without = _WITHOUT_MARK[codec]
        if octets[:size] not in marks:
            return without
    return codec


def _decode(octets: bytes, codec: str, errors: str) -> str:
    """Raises ValueError, and LookupError for what a codec cannot do."""
    text = _decode_in_pieces(octets, codec, errors)
    if codec == "utf_7":  # the one codec that lets lone surrogates through, which no UTF-8 can hold
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", errors)
    return text


def _decode_in_pieces(octets: bytes, codec: str, errors: str) -> str:
    """In pieces, since a codec lets no other thread run, for 100 ms in some charsets."""
    if len(octets) <= PIECE_OCTETS:
        return octets.decode(codec, errors)
    decoder = getincrementaldecoder(codec)(errors)
    pieces = [
        decoder.decode(octets[start : start + PIECE_OCTETS])
        for start in range(0, len(octets), PIECE_OCTETS)
    ]
    return "".join((*pieces, decoder.decode(b"", final=True)))

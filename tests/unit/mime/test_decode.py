import pytest

from pillarbox.mime import charset
from pillarbox.mime.decode import search_text
from pillarbox.mime.message import parse_message
from pillarbox.mime.transfer import decode_base64, decode_transfer


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        (b"aGk=", b"hi"),
        (b"aGk", b"hi"),
        (b"a\r\nG-k=\r\n", b"hi"),
        (b"aGkha", b"hi!"),
        (b"=", b""),
        (b"", b""),
    ],
)
def test_damaged_base64_gives_what_it_can(octets: bytes, decoded: bytes) -> None:
    assert decode_base64(octets) == decoded


def test_quoted_printable() -> None:
    assert decode_transfer(b"a=\r\nb=3D=zz=", b"quoted-printable") == b"ab==zz"
    assert decode_transfer(b"=3D", b"8bit") == b"=3D"


def text(header: bytes, body: bytes) -> str:
    octets = header + b"\r\n\r\n" + body
    return search_text(octets, parse_message(octets).root)


@pytest.mark.parametrize(
    ("charset", "body", "expected"),
    [
        (b"utf-8", b"\xc3\xa4\xff", "ä\ufffd"),
        (b"us-ascii", b"\xc3\xa4", "ä"),
        (b"", b"\xe4", "ä"),
        # RFC 5255 §4.6: what is not valid is searched as octets, too
        (b"us-ascii", b"\xe4", "ä\n\ufffd"),
        (b"x-no-such", b"\xe4\xc3\xa4", "äÃ¤\n\ufffdä"),
        (b"iso-2022-jp", b"\xc3\xa4", "\ufffd\ufffd\nä"),
        (b"ISO-8859-15", b"\xa4", "€"),
        (b"koi8-u", b"\xa4", "є"),
        (b"windows-1252", b"\x80", "€"),
        (b"rot13", b"abc", "abc"),
        (b"zlib", b"abc", "abc"),
        (b"unicode_escape", b"\\u0041", "\\u0041"),
        (b"utf-16", b"\xff\xfea\0", "a"),
    ],
)
def test_charsets(charset: bytes, body: bytes, expected: str) -> None:
    assert text(b"Content-Type: text/plain; charset=" + charset, body) == expected


def test_searched_text_is_that_of_all_text_parts_and_of_headers_in_contained_messages() -> None:
    body = (
        b"--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\nPNG\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?Q?=C3=A4?=\r\n\r\nin\r\n--b--"
    )
    assert text(b"Content-Type: multipart/mixed; boundary=b", body) == "one\nSubject: ä\nin"


def preview(content_type: bytes, body: bytes, more: bytes = b"") -> str:
    return parse_message(b"Content-Type: " + content_type + more + b"\r\n\r\n" + body).preview


def test_preview_is_one_line_of_at_most_200_characters() -> None:
    assert preview(b"text/plain", b"a\r\n b\t\0c\r\n") == "a b c"
    assert preview(b"text/plain", b"word " * 500) == ("word " * 40)
    assert preview(b"text/plain", b" " * 5000 + b"late") == "late"


def test_preview_has_no_markup() -> None:
    html = b"<style>p {}</style><!-- no --><p>b<b>ol</b>d &amp;<br>x</p><script>1<2"
    assert preview(b"text/html", html) == "bold & x"


def test_preview_of_a_cut_character_is_still_utf_8() -> None:
    body = b"x" * 1023 + "ä".encode() * 1000
    assert preview(b"text/plain; charset=us-ascii", b"\xc3\xa4 " + body)[0] == "ä"


def test_preview_skips_attachments_and_empty_parts() -> None:
    body = (
        b"--b\r\nContent-Disposition: attachment\r\n\r\nno\r\n--b\r\n\r\n \r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>yes\r\n--b--"
    )
    assert preview(b"multipart/mixed; boundary=b", body) == "yes"
    assert preview(b"image/png", b"PNG") == ""


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("utf-8", "häß€😀"),
        ("iso-2022-jp", "日本語 abc"),
        ("gb18030", "中文 x"),
        ("utf-7", "Ünï + x"),
        ("utf-16", "häß€😀"),
        ("utf-32", "häß€😀"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_text_that_is_decoded_in_pieces_is_the_same(
    monkeypatch: pytest.MonkeyPatch, codec: str, text: str, size: int
) -> None:
    octets = (text * 5).encode(codec)
    monkeypatch.setattr(charset, "PIECE_OCTETS", size)
    assert charset.decode_charset(octets, codec.encode()) == text * 5
    assert charset.decode_charset(octets[:-1] + b"\xff", b"utf-8").encode()


@pytest.mark.parametrize("name", sorted(charset._CODECS))
def test_every_charset_of_the_table_takes_any_octets(name: str) -> None:
    every = bytes(range(256))
    for octets in (b"", b"abc", every, every * (charset.PIECE_OCTETS // 256 + 1)):
        assert charset.decode_charset(octets, name.encode()).encode() is not None


@pytest.mark.parametrize("name", ["mbcs", "ansi", "dbcs", "oem"])
def test_codecs_that_only_windows_has_are_guessed(name: str) -> None:
    assert charset.decode_charset(b"\xc3\xa4", name.encode()) == "ä"


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_without_a_byte_order_mark_utf_16_is_big_endian(codec: str) -> None:
    """RFC 2781 §4.3, however much it is."""
    for repeat in (1, charset.PIECE_OCTETS):
        octets = ("needle" * repeat).encode(f"{codec}-be")
        assert charset.decode_charset(octets, codec.encode()) == "needle" * repeat

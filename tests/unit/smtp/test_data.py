"""The end of mail data, transparency and line ends (RFC 5321 §4.1.1.4, §4.5.2)."""

import pytest

from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp.data import DataDecoder, LineEndNormalizer


def decode(pieces: list[bytes]) -> tuple[bytes, bytes | None, bool]:
    decoder = DataDecoder()
    message = []
    for index, piece in enumerate(pieces):
        message.append(decoder.feed(piece))
        if decoder.rest is not None:
            rest = decoder.rest + b"".join(pieces[index + 1 :])
            assert decoder.size == len(b"".join(message))
            return b"".join(message), rest, decoder.bare_cr_or_lf
    return b"".join(message), None, decoder.bare_cr_or_lf


def every_cutting(data: bytes) -> list[list[bytes]]:
    """One piece; two pieces at each position; single octets."""
    cuts = [[data[:at], data[at:]] for at in range(len(data) + 1)]
    return [[data], [bytes([octet]) for octet in data], *cuts]


TAIL = b"QUIT\r\n"


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r.\n",
        b"\n.\r",
        b"\n\r.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n. \r\n",
        b"\r\n.\r \n",
        b"\n\n.\n\n",
        b"\r\n..\r\n",
        b"\r\n.\n.\n",
    ],
)
def test_only_crlf_dot_crlf_ends_data(smuggled: bytes) -> None:
    data = b"a: b\r\n\r\nfirst" + smuggled + b"MAIL FROM:<evil@example.com>\r\n.\r\n" + TAIL
    whole, rest, bare = decode([data])
    assert rest == TAIL
    assert whole.endswith(b"MAIL FROM:<evil@example.com>\r\n")
    assert bare == has_bare_cr_or_lf(smuggled)
    for pieces in every_cutting(data):
        assert decode(pieces) == (whole, rest, bare)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..b\r\n..\r\n.\r\n", b"a\r\n.b\r\n.\r\n"),
        (b"a.b\r\n.\r\n", b"a.b\r\n"),
        (b"\r\n..\r\n\r\n..\r\n.\r\n", b"\r\n.\r\n\r\n.\r\n"),
        (b"a\n..b\r\n.\r\n", b"a\n..b\r\n"),  # no line begins after a bare LF
        (b"\r\n.\r\r\n.\r\n", b"\r\n\r\r\n"),
        (b".\rx\r\n.\r\n", b"\rx\r\n"),
        (b"\0\x01\xff\r\n.\r\n", b"\0\x01\xff\r\n"),
    ],
)
def test_one_leading_dot_is_removed(sent: bytes, message: bytes) -> None:
    for pieces in every_cutting(sent + TAIL):
        octets, rest, _ = decode(pieces)
        assert (octets, rest) == (message, TAIL)


def test_lines_of_any_length_pass() -> None:
    line = b"x" * 3_000_000 + b"\r\n"
    assert decode([line[:1_000_000], line[1_000_000:], b".\r\n"])[0] == line


def test_at_most_four_octets_are_held_back() -> None:
    decoder = DataDecoder()
    sent = b"a\r\n.\rb\r\n.c\r\n.\r"
    passed = b""
    for index, octet in enumerate(sent):
        passed += decoder.feed(bytes([octet]))
        assert index + 1 - len(passed) <= 4 + 2  # and the dots that are removed
    assert passed == b"a\r\n\rb\r\nc"


@pytest.mark.parametrize(
    ("octets", "bare"),
    [
        (b"", False),
        (b"a\r\nb\r\n", False),
        (b"a\nb", True),
        (b"a\rb", True),
        (b"\r\r\n", True),
        (b"\n\r", True),
        (b"\r\n\n", True),
    ],
)
def test_bare_cr_and_lf_are_seen(octets: bytes, bare: bool) -> None:
    assert has_bare_cr_or_lf(octets) is bare


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r", b"\r\n"),
        (b"a\n.\nb", b"a\r\n.\r\nb"),
        (b"", b""),
    ],
)
def test_bare_cr_and_lf_become_crlf(sent: bytes, normal: bytes) -> None:
    for pieces in every_cutting(sent):
        normalizer = LineEndNormalizer()
        octets = b"".join([normalizer.feed(piece) for piece in pieces])
        assert octets + normalizer.finish() == normal

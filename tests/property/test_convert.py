"""Conversion of any message: readers see the same octets, and what was made fits (RFC 2045 §6, RFC 6152 §3)."""

from email import message_from_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.mime.convert import Transport, convert, fits, fold_long_lines
from pillarbox.mime.lines import LONGEST_LINE, has_long_line, is_clean

pieces = st.sampled_from(
    [b"text ", b"\xc3\xbc", b"\xff", b"=", b".", b" ", b"\t", b"x" * 60, b"y" * 1000, b"From "]
)
lines = st.lists(st.lists(pieces, max_size=4).map(b"".join), max_size=5).map(b"\r\n".join)
binary = st.binary(max_size=200) | st.lists(
    st.sampled_from([b"\0", b"\r", b"\n", b"\r\n", b"a", b"\xff"]), max_size=20
).map(b"".join)

text = st.tuples(
    st.sampled_from([b"text/plain; charset=utf-8", b"text/html"]),
    st.sampled_from([b"8bit", b"7bit", b"binary"]),
    lines,
)
other = st.tuples(
    st.sampled_from([b"application/octet-stream", b"image/png"]),
    st.sampled_from([b"8bit", b"binary"]),
    binary.filter(lambda octets: b"--" not in octets),
)


def leaf(parts: tuple[bytes, bytes, bytes]) -> bytes:
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % parts


@st.composite
def enclosed(draw, inner) -> bytes:
    number = draw(st.integers(0, 10**12))
    if draw(st.booleans()):
        return b"Content-Type: message/rfc822\r\n\r\nMIME-Version: 1.0\r\n" + draw(inner)
    boundary = b"b%d" % number
    parts = b"".join(
        b"--%b\r\n%b\r\n" % (boundary, part)
        for part in draw(st.lists(inner, min_size=1, max_size=3))
    )
    label = draw(st.sampled_from([b"", b"Content-Transfer-Encoding: 8bit\r\n"]))
    return b"Content-Type: multipart/mixed; boundary=%b\r\n%b\r\npreamble\r\n%b--%b--\r\n" % (
        boundary,
        label,
        parts,
        boundary,
    )


entities = st.recursive(text.map(leaf) | other.map(leaf), enclosed, max_leaves=6)


def content(octets: bytes) -> list[tuple[str, bytes | None]]:
    return [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in message_from_bytes(octets).walk()
    ]


@given(entities, st.sampled_from(Transport))
@settings(max_examples=300, deadline=None)
def test_readers_see_the_same(entity: bytes, transport: Transport) -> None:
    octets = b"Subject: x\r\nMIME-Version: 1.0\r\n" + entity
    made = convert(octets, transport)
    assert fits(made, transport)
    assert content(made) == content(octets)
    assert convert(made, transport) == made
    if fits(octets, transport) and b"binary" not in octets:
        assert made == octets


@given(st.binary(max_size=400), st.sampled_from(Transport))
@settings(max_examples=200, deadline=None)
def test_no_octets_make_it_fail(octets: bytes, transport: Transport) -> None:
    convert(octets, transport)
    convert(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + octets, transport)


@given(lines, lines)
@settings(max_examples=200, deadline=None)
def test_folding_only_adds_line_ends_before_white_space(first: bytes, second: bytes) -> None:
    header = b"X: " + first.replace(b"\r\n", b" ") + b"\r\nY: " + second.replace(b"\r\n", b" ")
    folded = fold_long_lines(header)
    assert folded.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t") == header
    assert not any(line.isspace() for line in folded.split(b"\r\n"))


@given(st.lists(st.integers(990, 1005) | st.integers(0, 100), max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_long_lines_are_found_like_the_naive_way(sizes: list[int], ends: bool) -> None:
    octets = b"\r\n".join(b"x" * size for size in sizes) + b"\r\n" * ends
    assert has_long_line(octets) is any(size > LONGEST_LINE for size in sizes)
    assert is_clean(octets) is not has_long_line(octets)

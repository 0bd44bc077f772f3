from pillarbox.mime.message import Message, Part, parse_message
from pillarbox.mime.structure import MAX_DEPTH, MAX_PARTS

# The shape of the example in RFC 3501 §6.4.5.
COMPLEX = b"""\
Content-Type: multipart/mixed; boundary=o

preamble
--o
Content-Type: text/plain

one
--o
Content-Type: application/octet-stream

two
--o
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=i

--i

three one
--i
Content-Type: application/octet-stream

three two
--i--
--o
Content-Type: multipart/mixed; boundary=j

--j
Content-Type: image/gif

four one
--j
Content-Type: message/rfc822

From: a@b
Content-Type: multipart/mixed; boundary=k

--k

four two one
--k
Content-Type: multipart/alternative; boundary=l

--l

four two two one
--l
Content-Type: text/richtext

four two two two
--l--
--k--
--j--
--o--
epilogue
""".replace(b"\n", b"\r\n")


def shape(part: Part) -> object:
    name = b"%b/%b" % (part.type, part.subtype)
    return (name, [shape(child) for child in part.children]) if part.children else name


def body_of(octets: bytes, message: Message, part: Part) -> bytes:
    return octets[message.header_size + part.body_start : message.header_size + part.end]


def test_parts_nest_as_their_boundaries_do() -> None:
    mixed, message, text = b"multipart/mixed", b"message/rfc822", b"text/plain"
    octet_stream = b"application/octet-stream"
    assert shape(parse_message(COMPLEX).root) == (
        mixed,
        [
            text,
            octet_stream,
            (message, [(mixed, [text, octet_stream])]),
            (
                mixed,
                [
                    b"image/gif",
                    (
                        message,
                        [(mixed, [text, (b"multipart/alternative", [text, b"text/richtext"])])],
                    ),
                ],
            ),
        ],
    )


def test_the_line_end_before_a_delimiter_is_not_in_the_body() -> None:
    for octets in (COMPLEX, COMPLEX.replace(b"\r\n", b"\n")):
        message = parse_message(octets)
        assert body_of(octets, message, message.root.children[0]) == b"one"
        assert message.root.end == len(octets) - message.header_size
        assert message.root.lines == octets[message.header_size :].count(b"\n")


def test_fields_put_in_front_change_no_offset() -> None:
    before, after = parse_message(COMPLEX), parse_message(b"Return-Path: <>\r\n" + COMPLEX)
    assert after.parts[8:] == before.parts[8:]
    assert after.root.children == before.root.children


def test_type_defaults() -> None:
    assert shape(parse_message(b"\r\nhi").root) == b"text/plain"
    assert shape(parse_message(b"Content-Type: nonsense\r\n\r\nhi").root) == b"text/plain"
    digest = b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nhi\n--b--\n"
    assert shape(parse_message(digest).root) == (
        b"multipart/digest",
        [(b"message/rfc822", [b"text/plain"])],
    )


def test_multipart_without_boundary_is_plain_text() -> None:
    assert shape(parse_message(b"Content-Type: multipart/mixed\n\nhi").root) == b"text/plain"


def test_multipart_without_parts_has_an_empty_one() -> None:
    message = parse_message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\nhi\r\n")
    (child,) = message.root.children
    assert (child.type, child.body_start, child.end) == (b"text", 4, 4)


def test_unfinished_multipart_ends_with_the_message() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n"
    message = parse_message(octets)
    assert body_of(octets, message, message.root.children[0]) == b"hi\r\n"


def test_outer_delimiter_ends_an_inner_multipart_that_is_not_closed() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        b"Content-Type: multipart/mixed; boundary=i\n\n--i\n\nin\n--o\n\nout\n--i\n--o--\n"
    )
    message = parse_message(octets)
    inner, outer = message.root.children
    assert body_of(octets, message, inner.children[0]) == b"in"
    assert body_of(octets, message, outer) == b"out\n--i"


def test_delimiter_in_a_header_ends_the_part() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nX: y\n--b\n\nhi\n--b--\n"
    message = parse_message(octets)
    first, second = message.root.children
    assert first.body_start == first.end == first.header_start + len(b"X: y\n")
    assert body_of(octets, message, second) == b"hi"


def test_delimiter_right_after_the_blank_line() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--"
    bodies = [child.end - child.body_start for child in parse_message(octets).root.children]
    assert bodies == [0, 0]


def test_boundary_that_begins_another_is_not_it() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--bb\n--b \t\n\ntwo\n--b--\n"
    message = parse_message(octets)
    assert [body_of(octets, message, part) for part in message.root.children] == [b"--bb", b"two"]


def test_of_two_multiparts_with_the_same_boundary_the_inner_comes_first() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"
        b"Content-Type: multipart/related; boundary=b\n\n--b\n\nin\n--b--\n--b\n\nout\n--b--\n"
    )
    message = parse_message(octets)
    assert shape(message.root) == (
        b"multipart/mixed",
        [(b"multipart/related", [b"text/plain"]), b"text/plain"],
    )
    assert body_of(octets, message, message.root.children[1]) == b"out"


def test_depth_is_bounded() -> None:
    multiparts = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(10_000)
    )
    for octets in (multiparts, b"Content-Type: message/rfc822\n\n" * 10_000):
        part, depth = parse_message(octets).root, 1
        while part.children:
            part, depth = part.children[-1], depth + 1
        assert depth == MAX_DEPTH + 1
        assert shape(part) == b"application/octet-stream"
        assert part.end == parse_message(octets).root.end


def test_number_of_parts_is_bounded() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nhi\n" * 10_000
    root = parse_message(octets).root
    assert len(root.children) == MAX_PARTS - 1
    assert root.children[-1].end == root.end
    assert shape(root.children[-1]) == b"application/octet-stream"

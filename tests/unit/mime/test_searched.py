"""Texts of a whole message are found or not (RFC 3501 §6.4.4 BODY, TEXT), also where a look at its octets is enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.mime.decode import part_headers_text, search_text
from pillarbox.mime.fold import fold
from pillarbox.mime.header import header_end
from pillarbox.mime.message import parse_message
from pillarbox.mime.searched import (
    HEADER_PIECE,
    Pairs,
    Wanted,
    header_texts,
    messages_with,
    possible,
)

PLAIN = b"Subject: plain\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nsome text\r\n"


def taken_apart(octets: bytes, wanted: str, *, with_header: bool) -> bool:
    """The same, without a look at the octets before."""
    root = parse_message(octets).root
    texts = [fold(search_text(octets, root))]
    if with_header:
        texts += header_texts(octets[: header_end(octets)])
        texts.append(fold(part_headers_text(octets, root)))
    return any(wanted in text for text in texts)


def found(messages: Pairs, wanted: Wanted) -> set[int]:
    return messages_with(possible(messages, wanted), wanted)


def contains(octets: bytes, wanted: str, *, with_header: bool) -> bool:
    return found([(7, octets)], [(wanted, with_header)]) == {7}


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: a\r\n abc\r\n b\r\n\r\n",
        b"Subject: =?utf-8?q?A=42C?=\r\n\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nA=42C\r\n",
        b"Content-Transfer-Encoding: Quoted-Printable (so)\r\n\r\nA=\r\nBC\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\nQUJD\r\n",
        b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AEEAQgBD-\r\n",
        b"Content-Type: text/plain; charset =utf-7\r\n\r\n+AEEAQgBD-\r\n",
        b'Content-Type: text/plain; charset="utf\\-7"\r\n\r\n+AEEAQgBD-\r\n',
        b"Content-Type: text/plain; charset*=us-ascii'en'utf-7\r\n\r\n+AEEAQgBD-\r\n",
        b"Content-Type: text/plain; charset*0=utf; charset*1=-7\r\n\r\n+AEEAQgBD-\r\n",
        b"Content-Type: text/plain; x=y; charset=\r\n\tutf-7\r\n\r\n+AEEAQgBD-\r\n",
        b"Content-Type: text/plain; charset=utf-16\r\n\r\n\0A\0B\0C",
        b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n y ABC\r\n\r\n",
        b"Content-Type: message/rfc822\r\n\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--\r\n",
    ],
)
def test_a_text_that_the_octets_hide_is_found(message: bytes) -> None:
    assert contains(message, "ABC", with_header=True)
    assert not contains(message, "ABD", with_header=True)


def test_a_text_that_one_of_many_messages_hides_is_found() -> None:
    hidden = b"Content-Transfer-Encoding: base64\r\n\r\nQUJD\r\n"
    many = [
        (1, PLAIN),
        (2, hidden),
        (3, PLAIN + b"abc"),
        (4, PLAIN),
        (5, b"Subject: =?utf-8?q?A=42C?="),
    ]
    assert found(many, [("ABC", True)]) == {2, 3, 5}
    assert found([many[0], many[2], many[3]], [("ABC", True)]) == {3}
    assert found([], [("ABC", True)]) == set()


def test_a_text_that_is_hidden_behind_a_nul_is_found() -> None:
    hidden = b"Content-Transfer-Encoding: (\0) base64\r\n\r\nQUJD\r\n"
    assert contains(hidden, "ABC", with_header=True)
    assert found([(1, hidden), (2, PLAIN)], [("ABC", True)]) == {1}
    assert found([(1, hidden), (2, PLAIN + 200_000 * b"x")], [("ABC", True)]) == {1}


@pytest.mark.parametrize(
    ("parameter", "wanted"),
    [
        (b'filename="Walrus 12.pdf"', "WALRUS 12"),
        (b"filename*=utf-8''W%61lrus%C3%A4", fold("walrus\u00e4")),
        (b'filename*0="Wal"; filename*1="rus"', "WALRUS"),
        (b'filename="Wal\\rus"', "WALRUS"),
        (b'filename="=?utf-8?q?W=61lrus?="', "WALRUS"),
    ],
)
def test_an_attachment_is_found_by_its_name(parameter: bytes, wanted: str) -> None:
    """TEXT is of the header and the body, and the headers of parts are in the body; BODY is of what is in the parts."""
    field = b"Content-Disposition: attachment; " + parameter + b"\r\n"
    mixed = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf\r\n"
        + field
        + b"\r\nabc\r\n--b--\r\n"
    )
    single = field + b"Content-Type: application/pdf\r\n\r\nabc"
    assert found([(1, PLAIN), (2, mixed), (3, single)], [(wanted, True)]) == {2, 3}
    assert found([(1, PLAIN), (2, mixed), (3, single)], [(wanted, False)]) == set()


def test_a_text_that_the_octets_have_elsewhere_is_not_found() -> None:
    assert not contains(PLAIN, "PLAIN", with_header=False)
    assert contains(PLAIN, "PLAIN", with_header=True)
    image = b"Content-Type: image/png\r\n\r\nABC\r\n"
    assert not contains(image, "ABC", with_header=True)


pieces = st.sampled_from(
    [
        b"Subject: ", b"\r\n ", b"\r\n\t", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"a", b"B", b"c", b"ab", b"abc", b"A C",
        b"\0", b"=?utf-8?q?", b"=42?=", b"Content-Type: text/plain; charset=", b"utf-8", b"utf-7", b"UTF-16", b";",
        b"'", b"hz", b"iso-8859-1", b"iso-2022-jp", b"\x1b$B", b"+AEEAQgBD-", b"Content-Transfer-Encoding: ", b"base64",
        b"quoted-printable", b"=42", b"QUJD", b"Content-Type: message/rfc822\r\n", b"--b\r\n", b"\xc3\xa4",
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: ", b"multi", b"(x)",
        b"Content-Disposition: attachment; filename=", b"; filename*=utf-8''%41B", b"; filename*0=A; filename*1=BC",
        b'; name="A\\B"', b"a(b)BC", b"Content-Description: ", b"--b--\r\n",
        b"part/mixed; boundary=b", b"base", b"64", b"message/", b"rfc", b"822", b"global", b"text/html",
    ]
)  # fmt: skip


def test_a_message_has_all_of_some_texts() -> None:
    hidden = b"Subject: other\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n"
    many = [(1, PLAIN), (2, hidden), (3, PLAIN + b"abc"), (4, b"Subject: abc\r\n\r\nplain")]
    assert found(many, [("ABC", True), ("PLAIN", True)]) == {3, 4}
    assert found(many, [("ABC", False), ("PLAIN", True)]) == {3}
    assert found(many, [("ABC", False), ("OTHER", True)]) == {2}
    assert found(many, [("ABC", False), ("OTHER", False)]) == set()
    assert found(many, [("SOME", False), ("ABC", False), ("PLAIN", False)]) == set()


wanted_texts = st.tuples(
    st.sampled_from(["ABC", "A C", "B", "", "A\rB", "A\nB", "A\u0308", "AA", "C "]), st.booleans()
)


@given(
    st.lists(st.lists(pieces, max_size=24).map(b"".join), max_size=3),
    st.lists(wanted_texts, min_size=1, max_size=3),
)
def test_a_look_at_the_octets_changes_nothing(
    messages: list[bytes], wanted: list[tuple[str, bool]]
) -> None:
    pairs = list(enumerate(messages))
    large = (7, PLAIN + HEADER_PIECE * b"x")
    assert (
        found(pairs, wanted)
        == found([large, *pairs], wanted) - {7}
        == {
            number
            for number, octets in enumerate(messages)
            if all(
                taken_apart(octets, text, with_header=with_header) for text, with_header in wanted
            )
        }
    )

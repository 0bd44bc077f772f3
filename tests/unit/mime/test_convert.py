"""Conversion for transports that take less (RFC 2045 §6, RFC 3030 §3, RFC 6152 §3)."""

from email import message_from_bytes

import pytest

from pillarbox.mime import convert as convert_module
from pillarbox.mime.convert import Transport, convert, fits, fold_long_lines, has_utf8_header
from pillarbox.mime.lines import has_bare_cr_or_lf, has_long_line, is_clean

SEVEN, EIGHT = Transport.SEVEN_BIT, Transport.EIGHT_BIT
UMLAUT = "grüße\r\n".encode()


def leaves(octets: bytes) -> list[bytes]:
    """The decoded bodies of all parts that have no parts."""
    return [
        part.get_payload(decode=True)
        for part in message_from_bytes(octets).walk()
        if not part.is_multipart()
    ]


def encodings(octets: bytes) -> list[str | None]:
    return [part["Content-Transfer-Encoding"] for part in message_from_bytes(octets).walk()]


def multipart(*parts: bytes, kind: bytes = b"mixed", header: bytes = b"") -> bytes:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return (
        b"MIME-Version: 1.0\r\n%bContent-Type: multipart/%b; boundary=b\r\n\r\n" % (header, kind)
        + body
        + b"--b--\r\n"
    )


@pytest.mark.parametrize("size", [997, 998, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nshort\r\n", b"\r"])
@pytest.mark.parametrize("before", [b"", b"x\r\n" * 400])
def test_a_long_line_has_over_998_octets_without_its_end(size, after, before) -> None:
    octets = before + b"x" * size + after
    assert has_long_line(octets) is (size > 998)


def test_what_fits_stays_as_it_is() -> None:
    plain = multipart(b"Content-Type: text/plain\r\n\r\nhello")
    eight = multipart(
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + UMLAUT
    )
    assert convert(plain, SEVEN) == plain
    assert convert(eight, EIGHT) == eight


def test_eight_bit_text_becomes_quoted_printable_and_other_parts_base64() -> None:
    octets = multipart(
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + UMLAUT * 3,
        b"Content-Type: text/plain\r\n\r\nplain =3D stays\r\n",
        b"Content-Type: application/x-thing\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xff\xfe",
        header=b"Content-Transfer-Encoding: 8bit\r\n",
    )
    made = convert(octets, SEVEN)
    assert fits(made, SEVEN)
    assert leaves(made) == leaves(octets)
    assert encodings(made) == ["7bit", "quoted-printable", None, "base64"]


def test_text_without_mime_gets_what_it_needs_to_be_read() -> None:
    """RFC 1428 §3"""
    made = convert(b"Subject: x\r\n\r\n" + UMLAUT, SEVEN)
    assert made == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n"
    )
    assert b"charset=unknown-8bit\r\n" in convert(b"Subject: x\r\n\r\n\xe9\r\n", SEVEN)


def test_a_message_within_is_converted_and_never_encoded_itself() -> None:
    """RFC 2046 §5.2.1"""
    inner = b"Subject: in\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + UMLAUT
    octets = multipart(
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner
    )
    made = convert(octets, SEVEN)
    assert fits(made, SEVEN)
    assert leaves(made) == leaves(octets)
    assert encodings(made) == [None, "7bit", "quoted-printable"]


@pytest.mark.parametrize("kind", [b"signed", b"encrypted"])
def test_signed_and_encrypted_parts_are_never_touched(kind: bytes) -> None:
    """RFC 1847 §2.1, RFC 3156 §3"""
    sealed = multipart(b"Content-Type: text/plain\r\n\r\n" + UMLAUT, b"\r\nsignature", kind=kind)
    assert convert(sealed, SEVEN) == sealed
    octets = multipart(sealed, b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + UMLAUT)
    made = convert(octets, SEVEN)
    assert sealed in made
    assert made.count("ü".encode()) == 1
    assert not fits(made, SEVEN)


@pytest.mark.parametrize("kind", [b"partial; id=1; number=1", b"external-body; access-type=x"])
def test_messages_that_must_be_seven_bit_are_not_encoded(kind: bytes) -> None:
    octets = b"MIME-Version: 1.0\r\nContent-Type: message/%b\r\n\r\n" % kind + UMLAUT
    assert convert(octets, SEVEN) == octets


def test_binary_parts_become_base64_octet_for_octet() -> None:
    binary = bytes(range(256)) * 20 + b"\r"
    octets = multipart(
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + binary,
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + UMLAUT,
        b"Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + "ab\r\n".encode("utf-16"),
        header=b"Content-Transfer-Encoding: binary\r\n",
    )
    made = convert(octets, EIGHT)
    assert is_clean(made)
    assert encodings(made) == ["8bit", "base64", "8bit", "base64"]
    assert leaves(made)[0] == binary
    assert leaves(made)[1] == UMLAUT[:-2] + b"\r\n"
    assert leaves(made)[2] == "ab\r\n".encode("utf-16")


def test_a_long_line_of_text_is_encoded_and_other_long_lines_too() -> None:
    octets = multipart(
        b"Content-Type: text/html\r\n\r\n<p>" + b"x" * 2000 + b"</p>",
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + b"QUJD" * 500,
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b"=3D" * 500,
        b"Content-Type: application/json\r\n\r\n" + b"1" * 1500,
    )
    made = convert(octets, EIGHT)
    assert is_clean(made)
    assert leaves(made) == leaves(octets)
    assert encodings(made) == [None, "quoted-printable", "base64", "quoted-printable", "base64"]


def test_damage_inside_of_encoded_parts_is_mended_not_encoded_twice() -> None:
    """RFC 3030 §3: no nested encodings."""
    octets = multipart(
        b"Content-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\xe9REVG\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\xe9",
    )
    made = convert(octets, SEVEN)
    assert fits(made, SEVEN)
    assert leaves(made) == [b"ABCDEF", b"\xc3\xbc\xe9"]


def test_lines_of_quoted_printable_stay_lines_and_end_as_they_did() -> None:
    for body in (b"\xe9", b"\xe9 \r\n", b"\xe9\r\n.\r\nFrom x\r\n", b"\xe9\r\n\r\n\t\r\n"):
        made = convert(b"Content-Type: text/plain\r\n\r\n" + body, SEVEN)
        assert leaves(made) == [body]
        assert fits(made, SEVEN)
        assert made.count(b"\r\n", made.index(b"\r\n\r\n") + 4) == body.count(b"\r\n")
        assert b"\r\n.\r\n" not in made


def test_preamble_and_epilogue_that_do_not_fit_go() -> None:
    """RFC 2046 §5.1.1: they are for no reader."""
    octets = multipart(b"Content-Type: text/plain\r\n\r\nx").replace(
        b"\r\n\r\n--b\r\n", b"\r\n\r\npr\xe9amble\r\n--b\r\n", 1
    )
    octets += b"\xe9pilogue\r\n-- \r\nx\r\n"
    made = convert(octets, SEVEN)
    assert made.endswith(b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n")


def test_a_multipart_without_parts_loses_nothing() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\xe9\r\n-- \r\nAnn\r\n"
    assert convert(octets, SEVEN) == octets


def test_long_header_lines_are_folded_where_they_have_spaces() -> None:
    words = b" ".join(b"<%d@host.example>" % number for number in range(200))
    header = b"References: " + words + b"\r\nSubject: x\r\n\r\n"
    folded = fold_long_lines(header)
    assert not has_long_line(folded)
    assert max(len(line) for line in folded.split(b"\r\n")) <= 100
    assert folded.replace(b"\r\n ", b" ") == header
    solid = b"X: " + b"x" * 3000 + b"\r\n\r\n"
    assert fold_long_lines(solid).replace(b"\r\n ", b" ") == solid
    odd = b"X:" + b" " * 1200 + b"a" + b" \t" * 600 + b"\r\n\r\n"
    assert not any(line and not line.strip() for line in fold_long_lines(odd).split(b"\r\n"))


def test_eight_bit_header_fields_stay() -> None:
    octets = "Subject: grüße\r\nContent-Type: text/plain\r\n\r\n".encode() + UMLAUT
    made = convert(octets, SEVEN)
    assert "Subject: grüße\r\n".encode() in made
    assert not fits(made, SEVEN)
    assert message_from_bytes(made).get_payload(decode=True) == UMLAUT


def test_an_encoding_that_nobody_knows_is_left_alone() -> None:
    octets = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uue\r\n\r\n\xe9\r\n"
    assert convert(octets, SEVEN) == octets


def test_bare_line_ends_are_found() -> None:
    assert [has_bare_cr_or_lf(each) for each in (b"", b"a\r\n", b"a\n", b"a\r", b"\n\r")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_header_in_utf8_is_found_at_every_level() -> None:
    """RFC 6531 §3.2"""
    body = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + UMLAUT
    assert not has_utf8_header(multipart(body))
    named = b'Content-Disposition: attachment; filename="' + "ü".encode() + b'"\r\n' + body
    inner = b"Content-Type: message/rfc822\r\n\r\nSubject: " + UMLAUT + b"\r\nx"
    for octets in (multipart(named), multipart(inner), b"Subject: " + UMLAUT + b"\r\nx"):
        assert has_utf8_header(octets)


@pytest.mark.parametrize("size", [10, 11, 12, 13])
def test_large_parts_are_encoded_in_slices_that_do_not_show(size: int, monkeypatch) -> None:
    bodies = [
        b"\xe9 =3D\r\n" * 30,
        b"\xe9" * 100,
        b"\xe9 a\r\n" + b"=" * 50 + b" \r\n\r\n",
        b"ab\xe9" + b" " * 30 + b"\r\nc",
    ]
    for body in bodies:
        for encoding in (b"8bit", b"quoted-printable"):
            octets = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: %b\r\n\r\n" % encoding
            whole = convert(octets + body, SEVEN)
            with monkeypatch.context() as patch:
                patch.setattr(convert_module, "_SLICE_OCTETS", size)
                sliced = convert(octets + body, SEVEN)
            assert leaves(sliced) == leaves(whole) == leaves(octets + body)
            assert fits(sliced, SEVEN)
            assert max(len(line) for line in sliced.split(b"\r\n")) <= 78

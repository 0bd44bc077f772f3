"""Headers of internationalized messages for clients that take ASCII only (RFC 6855 §7, RFC 6856 §2.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.mime.address_list import parse_address_list
from pillarbox.mime.header import decode_header, field_value, header_end, split_header
from pillarbox.mime.surrogate import ascii_header


def shown(field: str | bytes) -> bytes:
    octets = field.encode() if isinstance(field, str) else field
    result = ascii_header(octets + b"\r\n\r\n")
    assert result.endswith(b"\r\n")
    return result[:-2]


def test_an_ascii_header_stays_as_it_is() -> None:
    header = b"Subject: a\n b\r\nFrom : x\r\n\r\n"
    assert ascii_header(header) is header


@pytest.mark.parametrize("text", ["Grüße", "日本語 " * 60, "a ü =?x", "naïve plain words"])
def test_a_subject_is_still_read(text: str) -> None:
    field = shown(f"Subject: {text}")
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    assert decode_header(field.partition(b":")[2]).strip() == text.strip()


def test_octets_that_are_no_utf8_are_shown_too() -> None:
    assert decode_header(shown(b"Subject: caf\xe9").partition(b":")[2]).strip() == "café"


def test_names_stay_and_addresses_that_are_not_ascii_are_replaced() -> None:
    field = shown(
        'To: "Dö, J" <j@example.org>, Plain, x <a.b@example.org>, Jürgen <jürgen@example.org>, ü@bücher.example'
    )
    entries = parse_address_list(field_value(field, 0, len(field)))
    names = [decode_header(entry.name or b"") for entry in entries]
    assert names[0] == "Dö, J"
    assert names[-2:] == ["Jürgen", "ü@bücher.example"]
    assert entries[0].mailbox == b"j"
    assert [entry.host for entry in entries][-2:] == [b"address.invalid"] * 2


def test_a_group_stays_a_group() -> None:
    field = shown("Cc: Gäste: a@example.org, b@example.org;, c@example.org")
    entries = parse_address_list(field_value(field, 0, len(field)))
    assert [(entry.mailbox or b"")[:1] for entry in entries] == [b"=", b"a", b"b", b"", b"c"]


def test_names_of_files_keep_their_ascii_letters() -> None:
    field = shown('Content-Disposition: attachment;\r\n filename="Übersicht.pdf"')
    assert field == b'Content-Disposition: attachment; filename="_bersicht.pdf"\r\n'


def test_what_cannot_be_shown_is_left_out() -> None:
    header = "Received: from bücher\r\nX-Ü: 1\r\nDate: now\r\n\r\n".encode()
    assert ascii_header(header) == b"Date: now\r\n\r\n"


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: b"To: " + text.encode("utf-8", "replace"))
)
def test_any_header_becomes_ascii_and_ends_where_it_did(octets: bytes) -> None:
    header = octets[: header_end(octets)]
    result = ascii_header(header)
    assert result.isascii()
    if result is not header:
        assert header_end(result) == len(result)
        assert len(split_header(result)) <= len(split_header(header))

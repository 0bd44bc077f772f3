"""Modified UTF-7 (RFC 3501 §5.1.3)."""

import pytest

from pillarbox.imap.utf7 import decode_utf7, encode_utf7, is_canonical


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", b"INBOX"),
        ("", b""),
        ("a & b", b"a &- b"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("☺!", b"&Jjo-!"),
        ("台北日本語", b"&U,BTF2XlZyyKng-"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("😀", b"&2D3eAA-"),
        ("a\x7fb\t", b"a&AH8-b&AAk-"),
        ("é&", b"&AOk-&-"),
    ],
)
def test_names_have_one_wire_form(name: str, wire: bytes) -> None:
    assert encode_utf7(name) == wire
    assert decode_utf7(wire) == name
    assert is_canonical(wire)


@pytest.mark.parametrize("wire", [b"&Jjo!", b"&", b"a&b", b"&A-", b"&/AA-", b"caf\xc3\xa9", b"\n"])
def test_what_has_no_meaning_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError):
        decode_utf7(wire)
    assert not is_canonical(wire)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError):
        decode_utf7(b"&2D0-")
    assert encode_utf7("\ud83d") == b"&,,0-"


@pytest.mark.parametrize(
    ("wire", "name"), [(b"&U,BTFw-&ZeVnLIqe-", "台北日本語"), (b"&AGE-", "a"), (b"&AOl-", "é")]
)
def test_superfluous_encoding_is_understood_and_is_not_canonical(wire: bytes, name: str) -> None:
    assert decode_utf7(wire) == name
    assert not is_canonical(wire)

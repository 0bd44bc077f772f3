"""SETACL and its like as they are read (RFC 4314 §7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_acl import Acl, parse_identifier, parse_set_acl


def test_rights_of_rfc_2086_stand_for_several() -> None:
    assert parse_set_acl(Cursor(b" INBOX ann +cd")) == Acl("INBOX", "ann", "+", "kxte")
    assert parse_set_acl(Cursor(b' inbox "ann" ""')) == Acl("INBOX", "ann", "=", "")
    assert parse_set_acl(Cursor(b" INBOX ann -lr")) == Acl("INBOX", "ann", "-", "lr")


def test_identifiers_are_prepared() -> None:
    assert parse_identifier(Cursor(b'" x'[1:] + b' "a\xc2\xadb"')).identifier == "ab"


@pytest.mark.parametrize("rights", [b"L", b"q", b"+-l", b"l+", b"0", b'"l r"'])
def test_a_right_that_is_none_is_bad(rights: bytes) -> None:
    with pytest.raises(RemoteError):
        parse_set_acl(Cursor(b" INBOX ann " + rights))


@pytest.mark.parametrize("identifier", [b'""', b'"\xc2\xad"', b'"a\xe2\x80\xa8b"', b'"\xff"'])
def test_an_identifier_that_cannot_be_one_is_bad(identifier: bytes) -> None:
    with pytest.raises(RemoteError):
        parse_identifier(Cursor(b" INBOX " + identifier))


@given(st.binary(max_size=40))
def test_nothing_but_remote_errors_is_raised(text: bytes) -> None:
    try:
        args = parse_set_acl(Cursor(b" INBOX " + text))
    except RemoteError:
        return
    assert args.identifier
    assert set(args.rights) <= set("lrswipkxtea")

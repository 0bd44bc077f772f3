"""NOTIFY as it is read (RFC 5465 §8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.errors import Failure, Refused, RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_fetch import FetchItem
from pillarbox.imap.syntax_multisearch import Source
from pillarbox.imap.syntax_notify import EVENTS, EventGroup, Notify, parse_notify

PAIR = frozenset(("MessageNew", "MessageExpunge"))


def read(text: bytes) -> Notify:
    cursor = Cursor(text)
    parsed = parse_notify(cursor)
    cursor.end()
    return parsed


def test_none_cancels_all() -> None:
    assert read(b" none") == Notify()


def test_groups_are_read_in_order_and_in_any_case() -> None:
    found = read(
        b" SET STATUS (Selected-Delayed (messagenew (UID FLAGS uid) MESSAGEEXPUNGE flagchange))"
        b' (subtree ("a b" inbox) (MailboxName)) (MAILBOXES x NONE)'
    )
    assert found.tells_status
    assert found.groups == (
        EventGroup(
            Source("selected-delayed"),
            PAIR | {"FlagChange"},
            (FetchItem("UID", b"UID"), FetchItem("FLAGS", b"FLAGS")),
        ),
        EventGroup(Source("subtree", ("a b", "INBOX")), frozenset(("MailboxName",))),
        EventGroup(Source("mailboxes", ("x",)), frozenset()),
    )


def test_a_mailbox_may_be_called_status() -> None:
    assert not read(b" SET (mailboxes STATUS NONE)").tells_status


@pytest.mark.parametrize("event", [b"AnnotationChange", b"Whatever"])
def test_what_is_not_supported_is_told_once_all_is_well_formed(event: bytes) -> None:
    """RFC 5465 §3.1."""
    with pytest.raises(Refused) as caught:
        read(b" SET (personal (MessageNew MessageExpunge %b)) (subscribed NONE)" % event)
    assert caught.value.code == f"BADEVENT ({' '.join(EVENTS)})"
    with pytest.raises(RemoteError):
        read(b" SET (personal (MessageNew MessageExpunge %b)) (subscribed NONE" % event)


WORDS = st.sampled_from(
    [
        b"SET",
        b"NONE",
        b"STATUS",
        b"(",
        b")",
        b"selected",
        b"personal",
        b"mailboxes",
        b"INBOX",
        b"MessageNew",
        b"MessageExpunge",
        b"FlagChange",
        b"MailboxName",
        b"(UID)",
        b"BODY[]",
        b'"',
        b"{1}\n",
        b"\xff",
    ]
)


@given(st.lists(WORDS, max_size=12), st.sampled_from([b" ", b""]))
def test_whatever_comes_is_read_or_refused(words: list[bytes], separator: bytes) -> None:
    """And what is read keeps the rules of §5 and §6.1."""
    try:
        found = read(b" " + separator.join(words))
    except Failure:
        return
    selected = [group for group in found.groups if group.source.kind.startswith("selected")]
    assert len(selected) <= 1
    for group in found.groups:
        assert group.events.issubset(EVENTS)
        assert not group.events & PAIR or group.events >= PAIR
        assert "FlagChange" not in group.events or group.events >= PAIR
        assert not group.items or group in selected

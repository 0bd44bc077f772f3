"""Which events are told of which mailbox (RFC 5465 §6)."""

import pytest

from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_notify import parse_notify
from pillarbox.imapd.wishes import NOTHING, Events, OfSelected, Wishes, make_wishes

PAIR = b"MessageNew MessageExpunge"
OTHERS = ("Other Users", "ann@example.com")


def wishes(groups: bytes) -> Wishes:
    return make_wishes(parse_notify(Cursor(b" SET " + groups)).groups, "/")


@pytest.mark.parametrize(
    ("source", "name", "is_subscribed", "is_meant"),
    [
        (b"personal", ("a", "b"), False, True),
        (b"personal", (*OTHERS, "a"), False, False),
        (b"inboxes", ("INBOX",), False, True),
        (b"inboxes", ("INBOX", "a"), False, False),
        (b"subscribed", ("a",), True, True),
        (b"subscribed", ("a",), False, False),
        (b"subtree a", ("a",), False, True),
        (b"subtree a", ("a", "b", "c"), False, True),
        (b"subtree a/b", ("a",), False, False),
        (b"subtree a", ("ab",), False, False),
        (b"mailboxes (a b)", ("b",), False, True),
        (b"mailboxes a", ("a", "b"), False, False),
        (b"mailboxes *", ("a",), False, False),
        (b"mailboxes inbox/a", ("INBOX", "a"), False, True),
        (b'subtree "Other Users"', (*OTHERS, "a"), False, True),
    ],
)
def test_a_group_means_its_mailboxes(
    source: bytes, name: tuple[str, ...], is_subscribed: bool, is_meant: bool
) -> None:
    source = source.replace(b"*", b'"*"')
    found = wishes(b"(%b (%b))" % (source, PAIR))
    events = found.events(name, is_subscribed=is_subscribed)
    assert events == (Events.MESSAGES if is_meant else Events.NONE)


def test_groups_for_one_mailbox_are_added_up() -> None:
    found = wishes(b"(mailboxes INBOX (%b)) (personal (SubscriptionChange)) (inboxes NONE)" % PAIR)
    assert found.events(("INBOX",), is_subscribed=False) == Events.MESSAGES | Events.SUBSCRIPTION
    assert found.events(("a",), is_subscribed=False) == Events.SUBSCRIPTION


def test_without_a_group_for_it_nothing_is_told_of_the_selected_mailbox() -> None:
    assert wishes(b"(personal (%b))" % PAIR).selected == NOTHING
    assert wishes(b"(selected NONE)").selected.messages is False
    assert wishes(b"(selected (%b))" % PAIR).selected == OfSelected(True, False, (), True)
    delayed = wishes(b"(selected-delayed (%b FlagChange))" % PAIR).selected
    assert delayed == OfSelected(True, True, (), False)


def test_only_accounts_that_are_meant_are_looked_into() -> None:
    address = "ann@example.com"
    assert not wishes(b"(personal (MailboxName))").reaches(address, [(*OTHERS, "a")])
    assert wishes(b"(subscribed (MailboxName))").reaches(address, [(*OTHERS, "a")])
    assert not wishes(b"(subscribed (MailboxName))").reaches(address, [("a",)])
    assert wishes(b'(subtree "Other Users" (MailboxName))').reaches(address, [])
    other = b'(mailboxes "Other Users/bob@example.com/a" (MailboxName))'
    assert not wishes(other).reaches(address, [])

"""Rules of mailbox names and of what happens to those below (RFC 3501 §5.1, §6.3)."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from pillarbox.core.errors import Refused
from pillarbox.store import database, mailboxes
from pillarbox.store.tx import Tx


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Tx]:
    database.create(tmp_path / "one.db", "account")
    connection: apsw.Connection = database.connect(tmp_path / "one.db")
    made = Tx(1, connection, {0: ()}, 1_790_000_000)
    mailboxes.make_first(made, 0)
    yield made
    connection.close()


def names(tx: Tx) -> list[str]:
    return ["/".join(box.name) for box in mailboxes.all_mailboxes(tx)]


def test_a_new_account_has_inbox_first_and_the_special_ones(tx: Tx) -> None:
    assert names(tx) == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
    assert mailboxes.get(tx, ("Sent",)).special_use == "\\Sent"


def test_inbox_is_inbox_in_any_case_at_the_top_only(tx: Tx) -> None:
    assert mailboxes.get(tx, ("inBox",)).id == mailboxes.INBOX
    mailboxes.create(tx, ("inbox", "Lists"))
    mailboxes.create(tx, ("Lists", "inbox"))
    assert "INBOX/Lists" in names(tx)
    assert "Lists/inbox" in names(tx)


def test_create_makes_the_parents_too(tx: Tx) -> None:
    mailboxes.create(tx, ("a", "b", "c"))
    assert {"a", "a/b", "a/b/c"} <= set(names(tx))


@pytest.mark.parametrize(
    "name", [(), ("",), ("a", ""), ("a\x00",), ("a\x1fb",), ("x" * 2000,), ("d",) * 70]
)
def test_bad_names_are_refused(tx: Tx, name: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        mailboxes.create(tx, name)


def test_a_deleted_parent_stays_as_a_name_only(tx: Tx) -> None:
    mailboxes.create(tx, ("a", "b"))
    mailboxes.delete(tx, ("a",))
    assert "a" not in names(tx)
    assert mailboxes.has_children(tx, ("a",))
    with pytest.raises(Refused) as caught:
        mailboxes.delete(tx, ("a",))
    assert caught.value.code == "HASCHILDREN"


def test_a_name_used_again_has_another_uidvalidity(tx: Tx) -> None:
    first = mailboxes.create(tx, ("a",)).uidvalidity
    mailboxes.delete(tx, ("a",))
    assert mailboxes.create(tx, ("a",)).uidvalidity > first


def test_rename_takes_all_below_along(tx: Tx) -> None:
    mailboxes.create(tx, ("a", "b", "c"))
    old = mailboxes.get(tx, ("a", "b", "c"))
    mailboxes.rename(tx, ("a",), ("x", "y"))
    assert {"x", "x/y", "x/y/b", "x/y/b/c"} <= set(names(tx))
    assert not any(name.startswith("a/") for name in names(tx))
    moved = mailboxes.get(tx, ("x", "y", "b", "c"))
    assert (moved.id, moved.uidvalidity) == (old.id, old.uidvalidity)


def test_rename_below_itself_or_onto_another_is_refused(tx: Tx) -> None:
    mailboxes.create(tx, ("a",))
    for target in (("a", "b"), ("Sent",), ("INBOX",)):
        with pytest.raises(Refused):
            mailboxes.rename(tx, ("a",), target)


def test_renaming_inbox_moves_its_mail_and_leaves_it_empty(tx: Tx) -> None:
    mailboxes.create(tx, ("INBOX", "below"))
    mailboxes.rename(tx, ("INBOX",), ("old",))
    assert {"INBOX", "INBOX/below", "old"} <= set(names(tx))


def test_inbox_cannot_be_deleted(tx: Tx) -> None:
    with pytest.raises(Refused):
        mailboxes.delete(tx, ("inbox",))


def test_subscriptions_need_no_mailbox(tx: Tx) -> None:
    mailboxes.subscribe(tx, ("gone", "x"))
    mailboxes.subscribe(tx, ("gone", "x"))
    assert mailboxes.subscriptions(tx).count(("gone", "x")) == 1
    assert mailboxes.unsubscribe(tx, ("gone", "x"))
    assert not mailboxes.unsubscribe(tx, ("gone", "x"))


@pytest.mark.parametrize("char", ["\x00", "\x1f", "\x7f", "\x85", "\x9f", "\u2028", "\u2029"])
def test_names_hold_no_control_characters_or_separators_of_lines(char: str) -> None:
    # RFC 6855 §3
    with pytest.raises(Refused):
        mailboxes.normal_name((f"a{char}b",))

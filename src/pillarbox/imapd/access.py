"""Whether a client may do what it asks for in mailboxes of other accounts (RFC 4314 §4).

This is the one way to another account's file. Before a command is served, `admit` checks the rights that its row names
and notes the places that it may use; `Client.place` finds only these. What a client may not look up is answered as if
it did not exist (RFC 4314 §6), without opening a file unless the directory says that its owner shares something.
Rights in the selected mailbox are looked at anew before each command, and before each telling of changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pillarbox.core.errors import Refused
from pillarbox.imapd.client import Client
from pillarbox.imapd.names import from_wire, new_from_wire
from pillarbox.imapd.places import OTHERS, Place, is_foreign
from pillarbox.store import acl, mailboxes
from pillarbox.store.directory import Account
from pillarbox.store.mailboxes import Name
from pillarbox.store.tx import Tx

ANY = "lrikxa"
"""Of these, one is needed to learn one's own rights (RFC 4314 §4)."""


@dataclass(slots=True, frozen=True)
class Needs:
    """The rights that a command needs: in the selected mailbox, in the one that it names (of `any_of` one), and in the
    nearest one above a name that it makes."""

    selected: str = ""
    named: str = ""
    any_of: str = ""
    parent: str = ""

    @property
    def names_mailbox(self) -> bool:
        return bool(self.named or self.any_of)


NOTHING = Needs()


def concerns(client: Client, args: Any) -> bool:
    """Whether a command has to do with other accounts at all."""
    selected = client.selected_mailbox
    return (
        (selected is not None and selected.is_foreign)
        or getattr(args, "mailbox", "").startswith(OTHERS)
        or getattr(args, "new_mailbox", "").startswith(OTHERS)
    )


async def admit(client: Client, needs: Needs, args: Any) -> None:
    """Note the places that a command may use, or why it may not. Raises Refused NOPERM for the selected mailbox."""
    client.places.clear()
    await _check_selected(client, needs)
    named = getattr(args, "mailbox", "")
    if needs.names_mailbox and named.startswith(OTHERS):
        name = from_wire(named, client.context.separator)
        if is_foreign(name):
            client.places[named] = await _find(client, name, needs)
    made = getattr(args, "new_mailbox", named) if needs.parent else ""
    if made.startswith(OTHERS):
        name = new_from_wire(made, client.context.separator)
        if is_foreign(name):
            client.places[made] = await _find_parent(client, name, needs)


async def _check_selected(client: Client, needs: Needs) -> None:
    selected = client.selected_mailbox
    if selected is None or not selected.is_foreign:
        return
    try:
        await refresh(client)
    except Refused:
        # RFC 4314 §5.1.1
        client.selected_mailbox = None
        client.engine.bye("The selected mailbox is not shared with you any more")
        raise
    if not set(needs.selected) <= set(selected.rights):
        raise Refused("you may not do that in this mailbox", "NOPERM")


async def refresh(client: Client) -> None:
    """Look at the rights in the selected mailbox. Raises Refused where it cannot be read any more."""
    selected = client.selected
    if not selected.is_foreign:
        return
    rights = ""
    if client.context.store.directory.account_by_id(selected.account) is not None:
        me = client.account.id
        rights = await client.read_selected(lambda tx: acl.rights_of(tx, selected.mailbox, me))
    if "r" not in rights:
        raise Refused("the mailbox is not shared with you any more", "NOPERM")
    if rights != selected.rights:
        selected.rights = rights
        client.engine.send_rendered(selected.flag_responses())  # RFC 4314 §5.1.1: SHOULD


async def _find(client: Client, name: Name, needs: Needs) -> Place | Refused:
    """A mailbox of another account."""
    inner = name[2:]

    def named(tx: Tx) -> mailboxes.Mailbox | None:
        return mailboxes.find(tx, inner)

    return await _look(client, name, named, lambda rights: _is_enough(rights, needs))


async def _find_parent(client: Client, name: Name, needs: Needs) -> Place | Refused:
    """A name to be made; what counts is the nearest mailbox above it (RFC 4314 §4)."""
    inner = name[2:]

    def nearest(tx: Tx) -> mailboxes.Mailbox | None:
        above = (mailboxes.find(tx, inner[:depth]) for depth in range(len(inner) - 1, 0, -1))
        return next(filter(None, above), None)

    return await _look(client, name, nearest, lambda rights: set(needs.parent) <= set(rights))


async def _look(
    client: Client,
    name: Name,
    mailbox_of: Callable[[Tx], mailboxes.Mailbox | None],
    is_enough: Callable[[str], bool],
) -> Place | Refused:
    """NONEXISTENT also for what the client may not look up (RFC 4314 §6)."""
    owner = _sharer(client, name)
    rights = ""
    if owner is not None:
        me = client.account.id

        def work(tx: Tx) -> str:
            mailbox = mailbox_of(tx)
            return acl.rights_of(tx, mailbox.id, me) if mailbox else ""

        rights = await client.context.store.read(owner.id, work)
        if is_enough(rights):
            return Place(owner.id, name[2:], rights)
    if "l" in rights:
        return Refused("you may not do that in this mailbox", "NOPERM")
    return Refused("there is no such mailbox", "NONEXISTENT")


def _is_enough(rights: str, needs: Needs) -> bool:
    any_of = set(needs.any_of)
    return set(needs.named) <= set(rights) and (not any_of or bool(any_of & set(rights)))


def _sharer(client: Client, name: Name) -> Account | None:
    """Whose mailbox a name below OTHERS means, if they share something with the client."""
    directory = client.context.store.directory
    owner = directory.account(name[1]) if len(name) > 2 else None
    if owner is None or owner.id == client.account.id:
        return None
    shares = any(directory.shares(owner.id, who) for who in (client.account.id, acl.ANYONE))
    return owner if shares else None

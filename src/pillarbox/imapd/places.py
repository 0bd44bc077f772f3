"""Where a mailbox name leads: into the client's own account, or below OTHERS into that of somebody else (RFC 2342 §5,
RFC 4314): `Other Users/ann@example.com/INBOX` is ann's INBOX."""

from dataclasses import dataclass

from pillarbox.store.acl import RIGHTS
from pillarbox.store.directory import Account
from pillarbox.store.mailboxes import Name

OTHERS = "Other Users"
"""The first part of the names of mailboxes of other accounts."""


@dataclass(slots=True, frozen=True)
class Place:
    """A name in the file of an account, and what the client may do there."""

    account: int
    name: Name
    rights: str = RIGHTS


def is_foreign(name: Name) -> bool:
    """Whether a name leads to another account, or would."""
    return name[0] == OTHERS


def foreign_name(owner: Account, name: Name) -> Name:
    """How other accounts see a mailbox."""
    return (OTHERS, owner.address, *name)

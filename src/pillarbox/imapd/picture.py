"""What a client with NOTIFY knows of the mailboxes of accounts (RFC 5465), and how they stand otherwise by now."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pillarbox.imapd.places import foreign_name
from pillarbox.store import standing
from pillarbox.store.directory import Account
from pillarbox.store.mailboxes import Name
from pillarbox.store.standing import Eyes, Standing
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class Picture:
    """Of one account. `rows` are by number of the mailbox, and have only what the client may look up."""

    account: int
    owner: Account | None
    """None: the client's own account."""
    eyes: Eyes
    rows: dict[int, Standing] = field(default_factory=dict)
    version: int = -1
    """`standing.version` before all of `rows` were last read."""

    def name(self, row: Standing) -> Name:
        """As the client sees it."""
        return row.name if self.owner is None else foreign_name(self.owner, row.name)


@dataclass(slots=True, frozen=True)
class Change:
    """How a mailbox stood and stands; None: it was, or is, not there for the client. `is_revoked`: it is there, but
    may not be looked up any more."""

    picture: Picture
    number: int
    old: Standing | None
    new: Standing | None
    is_revoked: bool = False


async def look_at(
    store: Store, picture: Picture, numbers: Iterable[int], changes: list[Change]
) -> None:
    """Bring some mailboxes of a picture up to date, at most `standing.MAILBOXES_A_SLICE`, and add what changed. Raises
    Unavailable."""
    wanted = list(numbers)
    found = await store.read(picture.account, lambda tx: standing.of(tx, wanted, picture.eyes))
    _put(picture, wanted, found, changes)


async def look_at_all(
    store: Store,
    picture: Picture,
    changes: list[Change],
    pause: Callable[[], Awaitable[None]],
) -> None:
    """The same for all of a picture, where anything changed in the account."""
    version = await store.read(picture.account, standing.version)
    if version == picture.version:
        return
    missing = set(picture.rows)
    if picture.owner is None:
        missing.discard(0)
        await look_at(store, picture, (0,), changes)
    after, is_more = 0, True
    while is_more:

        def work(tx: Tx, after: int = after) -> dict[int, Standing]:
            return standing.slice_of(tx, after, picture.eyes)

        found = await store.read(picture.account, work)
        _put(picture, found, found, changes)
        missing.difference_update(found)
        is_more = len(found) == standing.MAILBOXES_A_SLICE
        after = max(found, default=0)
        await pause()
    _put(picture, missing, {}, changes)
    picture.version = version


def forget(picture: Picture, changes: list[Change]) -> None:
    """Nothing of an account may be looked up any more."""
    for number, row in picture.rows.items():
        changes.append(Change(picture, number, row, None, is_revoked=True))
    picture.rows.clear()


def _put(
    picture: Picture,
    numbers: Iterable[int],
    found: Mapping[int, Standing],
    changes: list[Change],
) -> None:
    rows = picture.rows
    for number in numbers:
        old, new = rows.get(number), found.get(number)
        is_revoked = new is not None and "l" not in new.rights
        if is_revoked:
            new = None
        if old == new:
            continue
        if new is None:
            del rows[number]
        else:
            rows[number] = new
        changes.append(Change(picture, number, old, new, is_revoked))


def put_own(
    picture: Picture, before: Mapping[int, Standing], after: Mapping[int, Standing]
) -> None:
    """What the client did itself is no news (RFC 5465 §5), where nobody else had done anything that it was not told
    of: `before` is what it found."""
    rows = picture.rows
    for number in {*before, *after}:
        if rows.get(number) != before.get(number):
            continue
        new = after.get(number)
        if new is not None and "l" in new.rights:
            rows[number] = new
        else:
            rows.pop(number, None)

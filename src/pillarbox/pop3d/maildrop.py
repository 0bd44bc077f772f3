"""The maildrop of one POP3 session: INBOX as it was at login (RFC 1939 §4, §5).

Message numbers, sizes and unique ids never change while the session lasts. Other programs may take messages away
meanwhile; those cannot be retrieved any more. Small messages that follow are read ahead, since clients retrieve them
one after another.
"""

import asyncio
import os
import time
from array import array

from pillarbox.core.errors import Refused
from pillarbox.store import mailboxes, maildrop, messages
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx
from pillarbox.trace.events import place_of

SNAPSHOT_SLICE = 1000
"""Narrow rows: about a millisecond."""

READ_AHEAD_MESSAGES = 64
READ_AHEAD_OCTETS = 256 * 1024

PIECE_OCTETS = 64 * 1024


class Maildrop:
    """Made by `open_maildrop`. Numbers are message numbers, from 1 to `len`."""

    __slots__ = (
        "_account",
        "_deleted",
        "_lock",
        "_mended",
        "_octets",
        "_read_ahead",
        "_sizes",
        "_store",
        "_uidls",
        "_uids",
        "_uidvalidity",
        "place",
    )

    def __init__(self, store: Store, account: int, lock: int) -> None:
        self._store = store
        self._account = account
        self._lock: int | None = lock
        self._uids = array("I")
        self._sizes = array("Q")
        self._octets = 0
        self._uidvalidity = 0
        self.place = ""
        """Under which the trace knows it."""
        self._uidls: dict[int, str] = {}  # by UID, where it is not made from UIDVALIDITY and UID
        self._mended: set[int] = set()  # UIDs of those to which line ends are added
        self._deleted: set[int] = set()
        self._read_ahead: dict[int, bytes] = {}

    def __len__(self) -> int:
        """How many messages there were at login."""
        return len(self._uids)

    async def load(self) -> None:
        """Take the snapshot, in slices: a message that leaves meanwhile is in it or not."""
        account, store = self._account, self._store
        inbox = await store.read(account, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))
        self._uidvalidity = inbox.uidvalidity
        self.place = place_of(account, mailboxes.INBOX, inbox.uidvalidity)
        following = 1
        while following < inbox.uidnext:
            ranges = [(following, inbox.uidnext - 1)]
            rows = await store.read(
                account,
                lambda tx, ranges=ranges: messages.select(  # type: ignore[misc]
                    tx,
                    mailboxes.INBOX,
                    ranges,
                    ("uid", "size", "line_ends_added", "uidl"),
                    SNAPSHOT_SLICE,
                ),
            )
            self._uids.extend([row[0] for row in rows])
            self._sizes.extend([size + (added or 0) for _, size, added, _ in rows])
            self._mended.update(row[0] for row in rows if row[2])
            self._uidls.update((row[0], row[3]) for row in rows if row[3])
            if len(rows) < SNAPSHOT_SLICE:
                break
            following = rows[-1][0] + 1
            await asyncio.sleep(0)
        self._octets = sum(self._sizes)

    def note_login(self, delay_s: int) -> bool:
        """Remember this login for as long as the account is there; False if the last was less than so long ago."""
        assert self._lock is not None
        return maildrop.note_login(self._lock, delay_s, time.time())

    def close(self) -> None:
        """Give the maildrop free. May be called again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # What STAT, LIST and UIDL say

    @property
    def present(self) -> int:
        """Messages that are not marked as deleted."""
        return len(self._uids) - len(self._deleted)

    @property
    def octets(self) -> int:
        """Their octets as they are sent, without byte-stuffing (RFC 1939 §11)."""
        return self._octets

    def has(self, number: int) -> bool:
        """Whether there is such a message and it is not marked as deleted."""
        return 0 < number <= len(self._uids) and number not in self._deleted

    def size(self, number: int) -> int:
        """Octets as they are sent, without byte-stuffing."""
        return self._sizes[number - 1]

    def has_crlf(self, number: int) -> bool:
        """Whether every line of it ends with CRLF as it is stored."""
        return self._uids[number - 1] not in self._mended

    def uid(self, number: int) -> int:
        """Its UID in INBOX."""
        return self._uids[number - 1]

    def uidl(self, number: int) -> str:
        """The unique id: stable for ever (RFC 1939 §7)."""
        uid = self._uids[number - 1]
        return self._uidls.get(uid) or f"{self._uidvalidity:08x}{uid:08x}"

    def numbers(self) -> list[int]:
        """Of the messages that are not marked as deleted, ascending."""
        deleted = self._deleted
        return [number for number in range(1, len(self._uids) + 1) if number not in deleted]

    # Deleting

    def mark_deleted(self, number: int) -> None:
        self._deleted.add(number)
        self._octets -= self._sizes[number - 1]

    def reset(self) -> None:
        """Unmark all (RFC 1939 §5, RSET)."""
        self._octets += sum(self._sizes[number - 1] for number in self._deleted)
        self._deleted.clear()

    async def update(self) -> messages.Ranges:
        """Remove the marked messages, all of them or none (RFC 1939 §6); returns their UIDs. Raises Unavailable."""
        if not self._deleted:
            return ()
        ranges = messages.to_ranges(self._uids[number - 1] for number in sorted(self._deleted))
        await self._store.write(
            self._account,
            lambda tx: messages.expunge(tx, mailboxes.INBOX, ranges, only_deleted=False),
        )
        return ranges

    # Reading

    async def message(self, number: int) -> bytes:
        """A message of at most READ_AHEAD_OCTETS, as it is stored. Raises Refused when it is gone, Unavailable."""
        octets = self._read_ahead.pop(number, None)
        if octets is None:
            last = self._last_to_read_ahead(number)
            span = (self._uids[number - 1], self._uids[last - 1])
            rows = await self._store.read(
                self._account,
                lambda tx: messages.select(tx, mailboxes.INBOX, [span], ("uid", "header", "body")),
            )
            self._read_ahead = self._by_number(number, last, rows)
            octets = self._read_ahead.pop(number, None)
            if octets is None:
                raise _gone()
        return octets

    def _last_to_read_ahead(self, number: int) -> int:
        """The last of the small messages from `number` on that are read together."""
        room = READ_AHEAD_OCTETS - self._sizes[number - 1]
        last = number
        for size in self._sizes[number : number + READ_AHEAD_MESSAGES - 1]:
            room -= size
            if room < 0:
                break
            last += 1
        return last

    def _by_number(
        self, first: int, last: int, rows: list[tuple[int, bytes, bytes | None]]
    ) -> dict[int, bytes]:
        if len(rows) == last - first + 1:
            return {
                number: header + body if body else header
                for number, (_, header, body) in enumerate(rows, first)
            }
        numbers = {self._uids[number - 1]: number for number in range(first, last + 1)}
        return {numbers[uid]: header + (body or b"") for uid, header, body in rows}

    async def header(self, number: int) -> bytes:
        """The header block with its blank line. Raises Refused when the message is gone, Unavailable."""
        _, header = await self._content_and_header(number)
        return header

    async def pieces(self, number: int) -> "Pieces":
        """A large message, to be read in pieces. Raises Refused when it is gone, Unavailable."""
        content, header = await self._content_and_header(number)
        return Pieces(self._store, self._account, content, header)

    async def _content_and_header(self, number: int) -> tuple[int, bytes]:
        uid = self._uids[number - 1]
        rows = await self._store.read(
            self._account,
            lambda tx: messages.select(
                tx, mailboxes.INBOX, [(uid, uid)], ("content", "header", "size")
            ),
        )
        if not rows:
            raise _gone()
        return rows[0][0], rows[0][1]


class Pieces:
    """A message of any size: `header`, then `read` until it gives b""."""

    __slots__ = ("_account", "_content", "_offset", "_store", "header")

    def __init__(self, store: Store, account: int, content: int, header: bytes) -> None:
        self._store = store
        self._account = account
        self._content = content
        self._offset = 0
        self.header = header

    async def read(self) -> bytes:
        """The next octets of the body, b"" at its end. Raises Unavailable."""
        piece = await self._store.read(self._account, self._read)
        self._offset += len(piece)
        return piece

    def _read(self, tx: Tx) -> bytes:
        return messages.body(tx, self._content, self._offset, PIECE_OCTETS)


def _gone() -> Refused:
    return Refused("that message was deleted by another program")


async def open_maildrop(store: Store, account: int) -> Maildrop | None:
    """The maildrop of an account, None if another session has it. Raises Unavailable."""
    await store.read(account, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))  # makes a new file
    lock = store.lock_maildrop(account)
    if lock is None:
        return None
    opened = Maildrop(store, account, lock)
    try:
        await opened.load()
    except BaseException:
        opened.close()
        raise
    return opened

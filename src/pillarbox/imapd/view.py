"""A session's view of its mailbox: the one owner of message numbers (RFC 3501 §2.3.1.2, §7.4.1). Pure.

The view is what the client was told; `telling` does that, and brings in the changes of the store. While a command
forbids EXPUNGE, messages that are gone stay in the view and keep their numbers. The array of UIDs is never changed in
place, so that sessions with equal views share one (`Snapshots`).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from pillarbox.core.errors import RemoteError
from pillarbox.imap.seqset import SeqSet, number_slices, uid_slices
from pillarbox.imapd.modes import Modes
from pillarbox.store.changes import merge

Ranges = list[tuple[int, int]]

KEPT_UIDS = 1_500_000
KEPT_SNAPSHOTS = 1000
"""Of mailboxes that no session may have open any more: 6 MiB in all."""


class View:
    """`uids` ascend; `uidnext` and `modseq` say up to where the store is known, `flags_modseq` up to where its flags
    are, `told_modseq` up to where the client was told of all of it, expunges too."""

    __slots__ = (
        "_recent",
        "_snapshot",
        "_vanished",
        "flags_modseq",
        "modseq",
        "own_modseqs",
        "told_modseq",
        "uidnext",
        "uids",
    )

    def __init__(self, uids: "array[int]", uidnext: int, modseq: int) -> None:
        self.uids = uids
        self.uidnext = uidnext
        self.modseq = self.flags_modseq = modseq
        self.told_modseq = modseq
        self.own_modseqs: set[int] = set()
        """ModSeqs of flag changes that this session made and reports by itself."""
        self._vanished: Ranges = []  # expunged, and the client does not know
        self._recent: Ranges = []
        self._snapshot: Snapshot | None = None

    def __len__(self) -> int:
        return len(self.uids)

    # Numbers

    def number(self, uid: int) -> int:
        """The message number of a UID, 0 if the view does not have it."""
        uids = self.uids
        if not uids or not uids[0] <= uid <= uids[-1]:
            return 0
        position = uid - uids[0]  # where nothing was expunged; else it is before that
        if position < len(uids) and uids[position] == uid:
            return position + 1
        position = bisect_left(uids, uid, 0, min(position, len(uids)))
        return position + 1 if uids[position] == uid else 0

    def numbers(self, wanted: Sequence[int]) -> list[int]:
        """The message numbers of UIDs that the view has, in their order."""
        uids = self.uids
        if uids and uids[-1] - uids[0] < len(uids):
            before = uids[0] - 1
            return [uid - before for uid in wanted]
        return [bisect_left(uids, uid) + 1 for uid in wanted]

    def slices(self, messages: SeqSet, uid: bool) -> list[range]:
        """What a set of UIDs or message numbers means, as ascending ranges of positions (from 0) in `uids`.

        Raises RemoteError for message numbers that do not exist; UIDs that do not are passed over.
        """
        if uid:
            return uid_slices(messages, self.uids)
        assert not messages.saved
        try:
            return number_slices(messages, len(self.uids))
        except ValueError as error:
            raise RemoteError(f"No such message: {error}") from None

    def uid_ranges(self, slices: Sequence[range]) -> Ranges:
        """The same as inclusive ranges of UIDs. Between two UIDs of the view the store has no others."""
        uids = self.uids
        return [(uids[part.start], uids[part.stop - 1]) for part in slices if part]

    # \Recent

    def add_recent(self, first: int, last: int) -> None:
        """Messages with these UIDs (inclusive), known or not yet known, are \\Recent in this session."""
        self._recent = merge([*self._recent, (first, last)])

    def is_recent(self, uid: int) -> bool:
        return any(first <= uid <= last for first, last in self._recent)

    def recent_slices(self, uids: Sequence[int]) -> list[slice]:
        """Where in these ascending UIDs those of \\Recent messages are."""
        return [
            slice(bisect_left(uids, first), bisect_right(uids, last))
            for first, last in self._recent
        ]

    @property
    def recent(self) -> int:
        """How many messages of the view are \\Recent."""
        return sum(part.stop - part.start for part in self.recent_slices(self.uids))

    # Changes

    def vanish(self, ranges: Ranges) -> None:
        """Messages in these ranges of UIDs were expunged; the client is not told yet."""
        if ranges:
            self._vanished = merge(self._vanished + ranges)

    @property
    def has_vanished(self) -> bool:
        """Whether some is gone that the client was not told of."""
        return bool(self._vanished)

    def vanished_uids(self) -> set[int]:
        """What `expunge` would take out."""
        uids = self.uids
        found: set[int] = set()
        for first, last in self._vanished:
            found.update(uids[bisect_left(uids, first) : bisect_right(uids, last)])
        return found

    def expunge(self) -> list[range]:
        """Take out what has vanished; the numbers of that, each range descending and the last one first, so that each
        number is right when it is told."""
        return [range(part.stop, part.start, -1) for part in reversed(self._take_vanished()[1])]

    def expunge_uids(self) -> "array[int]":
        """The same, but its UIDs."""
        uids, parts = self._take_vanished()
        gone = array("I")
        for part in parts:
            gone += uids[part.start : part.stop]
        return gone

    def _take_vanished(self) -> tuple["array[int]", list[range]]:
        """The UIDs that there were, and where in them those are that are gone."""
        if not self._vanished:
            return self.uids, []
        uids = self.uids
        kept = array("I")
        parts: list[range] = []
        position = 0
        for first, last in self._vanished:
            start = bisect_left(uids, first, position)
            end = bisect_right(uids, last, start)
            kept += uids[position:start]
            if end > start:
                parts.append(range(start, end))
            position = end
        self._vanished = []
        if parts:
            self.uids = kept + uids[position:]
        return uids, parts

    def add(self, uids: "array[int]", uidnext: int) -> None:
        """Messages that came, all of those below `uidnext`."""
        self.uidnext = uidnext
        if uids:
            self.uids = self.uids + uids

    def flag_responses(
        self,
        changed: Iterable[tuple[int, int, int]],
        flag_text: Callable[[int], bytes],
        modes: Modes,
    ) -> list[bytes]:
        """The untagged responses for (uid, flags, modseq) rows; `flag_text` gives the wire form of a flags value."""
        responses = []
        tells_uid = modes.tells_uid or modes.notify
        for uid, flags, modseq in changed:
            number = self.number(uid)
            if number and modseq not in self.own_modseqs:
                text = with_recent(flag_text(flags)) if self.is_recent(uid) else flag_text(flags)
                uid_item = b"UID %d " % uid if tells_uid else b""
                modseq_item = b" MODSEQ (%d)" % modseq if modes.condstore else b""
                responses.append(
                    b"* %d FETCH (%bFLAGS (%b)%b)\r\n" % (number, uid_item, text, modseq_item)
                )
        return responses

    # Sharing

    def share(self, snapshots: "Snapshots", account: int, mailbox: int) -> None:
        """Hold the same array as other sessions whose view is equal."""
        if self._vanished or (self._snapshot is not None and self._snapshot.uids is self.uids):
            return
        self._snapshot = snapshots.share(account, mailbox, Snapshot(self.uids, self.uidnext))
        self.uids = self._snapshot.uids


@dataclass(slots=True, weakref_slot=True, eq=False)
class Snapshot:
    """All messages that a mailbox had at one time."""

    uids: "array[int]"
    uidnext: int


class Snapshots:
    """The newest snapshot of every mailbox that some session holds, and of some that were used last.

    Under one UIDNEXT a mailbox only loses messages, so UIDNEXT and their number tell its UIDs.
    """

    __slots__ = ("_by_mailbox", "_latest", "_latest_uids")

    def __init__(self) -> None:
        self._by_mailbox: WeakValueDictionary[tuple[int, int], Snapshot] = WeakValueDictionary()
        self._latest: OrderedDict[tuple[int, int], Snapshot] = OrderedDict()
        self._latest_uids = 0

    def find(self, account: int, mailbox: int, uidnext: int, messages: int) -> "array[int] | None":
        """The UIDs of a mailbox in this state, if some session holds them."""
        snapshot = self._by_mailbox.get((account, mailbox))
        if snapshot is None or snapshot.uidnext != uidnext or len(snapshot.uids) != messages:
            return None
        return snapshot.uids

    def share(self, account: int, mailbox: int, snapshot: Snapshot) -> Snapshot:
        """The snapshot to hold: an equal one that is there already, or this."""
        key = (account, mailbox)
        known = self._by_mailbox.get(key)
        if (
            known is not None
            and known.uidnext == snapshot.uidnext
            and len(known.uids) == len(snapshot.uids)
        ):
            snapshot = known
        else:
            self._by_mailbox[key] = snapshot
        self._keep(key, snapshot)
        return snapshot

    def _keep(self, key: tuple[int, int], snapshot: Snapshot) -> None:
        """Hold it for a while, within KEPT_UIDS: clients open the same mailbox again and again."""
        old = self._latest.pop(key, None)
        if old is not None:
            self._latest_uids -= len(old.uids)
        self._latest[key] = snapshot
        self._latest_uids += len(snapshot.uids)
        while self._latest_uids > KEPT_UIDS or len(self._latest) > KEPT_SNAPSHOTS:
            _, dropped = self._latest.popitem(last=False)
            self._latest_uids -= len(dropped.uids)


def with_recent(flags: bytes) -> bytes:
    """Flags without parentheses, and `\\Recent`."""
    return flags + b" \\Recent" if flags else b"\\Recent"

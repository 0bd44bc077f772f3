"""STORE (RFC 3501 §6.4.6; UNCHANGEDSINCE: RFC 7162 §3.1.3)."""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.core.flags import SYSTEM_MASK
from pillarbox.imap.seqset import SeqSet, format_ranges
from pillarbox.imap.syntax_fetch import MODSEQ, FetchItem
from pillarbox.imap.syntax_message import Store
from pillarbox.imapd import resync, told
from pillarbox.imapd.client import FEW, Answer, Client
from pillarbox.imapd.fetch_items import FLAGS, UID, Plan
from pillarbox.imapd.fetch_slices import send_alike, send_items
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.telling import tell_flags
from pillarbox.imapd.view import View
from pillarbox.store import acl, changes, keywords, messages
from pillarbox.store.acl import RIGHTS, flags_of
from pillarbox.store.changes import FlagRows
from pillarbox.store.flags import Flagged, change_flags
from pillarbox.store.messages import Ranges
from pillarbox.store.tx import Tx


@dataclass(slots=True, frozen=True)
class Change:
    """`mode` is "+", "-" or "="; flags as `store.flags.change_flags` takes them."""

    mode: str
    system: int
    keywords: tuple[bytes, ...] = ()
    unchanged_since: int | None = None


@dataclass(slots=True)
class Stored:
    """`hidden`: flags that others had set before on the same messages, None where that is too much to know, or not
    wanted. `modseq` is
    0 if all flags were so already."""

    hidden: FlagRows | None
    modseq: int
    failed: Ranges = ()
    """UIDs that had changed since the client's UNCHANGEDSINCE."""
    done: Flagged | None = None
    """What became of the messages, where nothing kept some flags from being changed."""


async def store(client: Client, args: Store) -> Answer:
    client.ensure_writable()
    selected = client.selected
    view = selected.view
    positions = selected.slices(args.sequence, args.uid)
    if args.unchanged_since is not None:
        client.enable_condstore()
    _ensure_allowed(args, selected.rights)
    ranges = view.uid_ranges(positions)
    if not ranges:
        return Answer("Store completed.")
    change = Change(args.mode or "=", args.flags.system, args.flags.keywords, args.unchanged_since)
    count = sum(map(len, positions))
    stored = await set_flags(client, ranges, count, change)
    code = _modified(view, stored.failed, args.uid)
    if args.silent and not client.modes.condstore:
        # RFC 2180 §4.2.1: OK, even if some messages are gone
        return Answer("Store completed.")
    items = _items(client, args)
    done = stored.done
    if done is not None and _are_alike(done, count, items):
        await send_alike(client, items, positions, done.values.pop(), done.modseq)
        return Answer("Store completed.")
    told_of = 0
    if args.silent and stored.failed:
        # RFC 7162 §3.1.3: so that the client need not ask what had changed
        failed = view.slices(SeqSet(tuple(stored.failed)), uid=True)
        told_of = await send_items(client, Plan((UID, FLAGS, MODSEQ)), failed)
        positions = view.slices(SeqSet(tuple(resync.subtract(ranges, stored.failed))), uid=True)
    told_of += await send_items(client, Plan(items), positions)
    if not (args.uid or args.silent) and told_of < sum(map(len, positions)):
        # RFC 2180 §4.2.2, §4.2.3
        raise Refused("some of the messages no longer exist", code or "EXPUNGEISSUED")
    if code:
        return Answer("Some of the messages had changed.", code.encode("ascii"))
    return Answer("Store completed.")


def _ensure_allowed(args: Store, rights: str) -> None:
    """Raises Refused NOPERM where none of the flags may be changed (RFC 4314 §4)."""
    if rights == RIGHTS:
        return
    allowed = flags_of(rights) & (args.flags.system if args.mode else SYSTEM_MASK)
    if not (allowed or ("w" in rights and args.flags.keywords)):
        raise Refused("you may not change these flags", "NOPERM")


def _items(client: Client, args: Store) -> tuple[FetchItem, ...]:
    """What is told of the messages (RFC 7162 §3.1.3, §3.2.4; RFC 3501 §6.4.8)."""
    if client.modes.condstore:
        return (UID, MODSEQ) if args.silent else (UID, FLAGS, MODSEQ)
    return (UID, FLAGS) if args.uid or client.modes.tells_uid else (FLAGS,)


def _are_alike(done: Flagged, messages: int, items: tuple[FetchItem, ...]) -> bool:
    """Whether so many messages are all there and the same in all that is told of them."""
    is_one = len(done.values) == 1 and done.found == messages
    return is_one and (MODSEQ not in items or done.changed == messages)


def _modified(view: View, failed: Ranges, uid: bool) -> str:
    """The response code for messages that failed UNCHANGEDSINCE (RFC 7162 §3.1.3)."""
    if not failed:
        return ""
    if not uid:
        positions = view.slices(SeqSet(tuple(failed)), uid=True)
        failed = [(part.start + 1, part.stop) for part in positions]
    return "MODIFIED " + format_ranges(failed).decode("ascii")


async def set_flags(client: Client, ranges: Ranges, count: int, change: Change) -> Stored:
    """Change flags of so many messages, and tell the client what others changed before.

    The next `sync` does not tell of it, but where too much had changed: then it tells of everything.
    """
    selected = client.selected
    view = selected.view

    def work(tx: Tx) -> Stored:
        wanted, failed = ranges, _failed(tx, selected.mailbox, ranges, change.unchanged_since)
        if failed:
            wanted = resync.subtract(ranges, failed)
        if selected.is_foreign and "w" in selected.rights and change.mode != "-":
            keywords.ensure_room(tx, change.keywords, is_guest=True)
        if selected.rights != RIGHTS:
            return Stored(None, _store_allowed(tx, selected, wanted, change), failed)
        # Changes of others to the same messages would be hidden behind our own ModSeq.
        found = changes.since(tx, selected.mailbox, view.modseq, view.uidnext, view.own_modseqs)
        before: FlagRows = []
        rest = None
        if found is not None:
            before, rest = changes.flags_since(tx, selected.mailbox, found.flagged, view.modseq)
        done = change_flags(
            tx, selected.mailbox, wanted, change.mode, change.system, change.keywords
        )
        modseq = done.modseq
        if rest or not client.wanted.flags:
            return Stored(None, modseq, failed, done)
        if not (found and before and modseq):
            return Stored([], modseq, failed, done)
        after, _ = changes.flags_since(tx, selected.mailbox, found.flagged, modseq - 1)
        ours = {row[0] for row in after}
        return Stored([row for row in before if row[0] in ours], modseq, failed, done)

    # Each other set of keywords that a message has costs as much as some messages.
    is_short = count <= FEW and not change.keywords and selected.rights == RIGHTS
    stored = await client.write_selected(work, is_short=is_short)
    if stored.modseq:
        wanted = resync.subtract(ranges, stored.failed) if stored.failed else ranges
        told.tell_flags(client, wanted, change.mode, change.system, change.keywords)
    hidden = stored.hidden
    if hidden is not None:
        if stored.modseq:
            view.own_modseqs.add(stored.modseq)
        if hidden:
            await client.read_selected(
                lambda tx: selected.learn_flags(tx, [row[1] for row in hidden])
            )
            tell_flags(client, hidden)
    return stored


def _store_allowed(tx: Tx, selected: Selected, ranges: Ranges, change: Change) -> int:
    """Change the flags that the client may change (RFC 4314 §4)."""
    rights = selected.rights
    if change.mode == "=":
        where = (selected.mailbox, ranges)
        return acl.store_allowed(tx, where, rights, change.system, change.keywords)
    system = change.system & flags_of(rights)
    names = change.keywords if "w" in rights else ()
    return change_flags(tx, selected.mailbox, ranges, change.mode, system, names).modseq


def _failed(tx: Tx, mailbox: int, ranges: Ranges, unchanged_since: int | None) -> Ranges:
    """The messages with a higher ModSeq."""
    if unchanged_since is None:
        return ()
    rows = messages.select(tx, mailbox, ranges, ("uid", "modseq"))
    return messages.to_ranges(uid for uid, modseq in rows if modseq > unchanged_since)

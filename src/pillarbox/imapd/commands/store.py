"""STORE (RFC 3501 §6.4.6)."""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.imap.syntax_message import Store
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.fetch_items import FLAGS, UID, Plan
from pillarbox.imapd.fetch_slices import send_items
from pillarbox.imapd.telling import tell_flags
from pillarbox.store import changes, messages
from pillarbox.store.changes import FlagRows
from pillarbox.store.messages import Ranges
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class _Stored:
    """`hidden`: flags that others had set before on the same messages, None where that is too much to know. `modseq` is
    0 if all flags were so already."""

    hidden: FlagRows | None
    modseq: int


async def store(client: Client, args: Store) -> Answer:
    client.ensure_writable()
    positions = client.selected.view.slices(args.sequence, args.uid)
    ranges = client.selected.view.uid_ranges(positions)
    if not ranges:
        return Answer("Store completed.")
    await set_flags(client, ranges, args.mode or "=", args.flags.system, args.flags.keywords)
    if args.silent:
        # RFC 2180 §4.2.1: OK, even if some messages are gone
        return Answer("Store completed.")
    plan = Plan((UID, FLAGS) if args.uid else (FLAGS,))
    told = await send_items(client, plan, positions)
    if not args.uid and told < sum(map(len, positions)):
        # RFC 2180 §4.2.2, §4.2.3
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    return Answer("Store completed.")


async def set_flags(
    client: Client, ranges: Ranges, mode: str, system: int, keywords: tuple[bytes, ...]
) -> int:
    """Change flags, tell the client what others changed before, and return the ModSeq of this change (0: none).

    The next `sync` does not tell of it, but where too much had changed: then it tells of everything.
    """
    selected = client.selected
    view = selected.view

    def work(tx: Tx) -> _Stored:
        # Changes of others to the same messages would be hidden behind our own ModSeq.
        found = changes.since(tx, selected.mailbox, view.modseq, view.uidnext, view.own_modseqs)
        before: FlagRows = []
        rest = None
        if found is not None:
            before, rest = changes.flags_since(tx, selected.mailbox, found.flagged, view.modseq)
        modseq = messages.store_flags(tx, selected.mailbox, ranges, mode, system, keywords)
        if rest or not (found and before and modseq):
            return _Stored(None if rest else [], modseq)
        after, _ = changes.flags_since(tx, selected.mailbox, found.flagged, modseq - 1)
        ours = {row[0] for row in after}
        return _Stored([row for row in before if row[0] in ours], modseq)

    stored = await client.write(work)
    hidden = stored.hidden
    if hidden is not None:
        if stored.modseq:
            view.own_modseqs.add(stored.modseq)
        if hidden:
            await client.read(lambda tx: selected.learn_flags(tx, [row[1] for row in hidden]))
            tell_flags(client, hidden)
    return stored.modseq

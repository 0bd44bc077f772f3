"""STORE (RFC 3501 §6.4.6)."""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.imap.syntax_message import Store
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.fetch_items import FLAGS, UID, Plan
from pillarbox.imapd.fetch_slices import send_items
from pillarbox.store import changes, messages
from pillarbox.store.changes import Changes
from pillarbox.store.messages import Ranges
from pillarbox.store.tx import Tx


@dataclass(slots=True)
class _Stored:
    """`before`: what others had changed until then. `modseq` is 0 if all flags were so already."""

    before: Changes | None
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

    The next `sync` does not tell of it.
    """
    selected = client.selected
    view = selected.view

    def work(tx: Tx) -> _Stored:
        # Changes of others to the same messages would be hidden behind our own ModSeq.
        before = changes.since(tx, selected.mailbox, view.modseq, view.uidnext)
        modseq = messages.store_flags(tx, selected.mailbox, ranges, mode, system, keywords)
        return _Stored(before, modseq)

    stored = await client.write(work)
    if stored.modseq:
        view.own_modseqs.add(stored.modseq)
    await client.report(stored.before, expunge=False)
    return stored.modseq

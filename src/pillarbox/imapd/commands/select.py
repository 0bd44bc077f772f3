"""SELECT, EXAMINE, CHECK, CLOSE, UNSELECT (RFC 3501 §6.3.1, §6.4, RFC 3691; QRESYNC: RFC 7162 §3.2.5)."""

from contextlib import suppress

from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap import responses
from pillarbox.imap.responses import vanished
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_fetch import MODSEQ
from pillarbox.imap.syntax_select import Resync, Select
from pillarbox.imapd import resync
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.fetch_items import FLAGS, UID, Plan
from pillarbox.imapd.fetch_slices import send_items
from pillarbox.imapd.names import to_wire
from pillarbox.imapd.objectid import mailboxid_code
from pillarbox.imapd.places import Place
from pillarbox.imapd.selected import Selected
from pillarbox.imapd.telling import UIDS_A_SLICE, claim_recent, exists, load_uids
from pillarbox.imapd.told import selected_place, tell_expunged
from pillarbox.imapd.view import View
from pillarbox.store import changes, keywords, mailboxes, messages
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.tx import Tx


async def select(client: Client, args: Select) -> Answer:
    await _open(client, args, read_only=False)
    return Answer("Select completed.", b"READ-ONLY" if client.selected.read_only else b"READ-WRITE")


async def examine(client: Client, args: Select) -> Answer:
    await _open(client, args, read_only=True)
    return Answer("Examine completed.", b"READ-ONLY")


async def _open(client: Client, args: Select, *, read_only: bool) -> None:
    if args.resync is not None and not client.modes.qresync:  # RFC 7162 §3.2.5
        raise RemoteError("QRESYNC was not enabled")
    if client.selected_mailbox is not None:
        # RFC 9051 §6.3.2, RFC 7162 §3.2.11; RFC 3501 §6.3.1: even if this one fails
        client.engine.send_untagged(b"OK", "Previous mailbox closed.", b"CLOSED")
        client.selected_mailbox = None
    place = client.place(args.mailbox)
    # RFC 4314 §5.2: nothing can be changed without one of these
    read_only = read_only or not set("iewst") & set(place.rights)
    while (opened := await _load(client, place, read_only=read_only)) is None:
        await client.pause()  # too much changed meanwhile
    selected, now, first_unseen = opened
    selected.name = args.mailbox
    view = selected.view
    view.share(client.context.snapshots, place.account, selected.mailbox)
    client.selected_mailbox = selected
    engine = client.engine
    engine.send(exists(client))
    engine.send_rendered(selected.flag_responses())
    if client.modes.rev2:
        await _tell_name(client, args.mailbox, now)
    elif first_unseen is not None:
        number = view.number(first_unseen)
        engine.send_untagged(b"OK", "First unseen.", b"UNSEEN %d" % number)
    engine.send_untagged(b"OK", "UIDs valid.", b"UIDVALIDITY %d" % now.uidvalidity)
    engine.send_untagged(b"OK", "Predicted next UID.", b"UIDNEXT %d" % now.uidnext)
    engine.send_untagged(b"OK", "Mailbox id.", mailboxid_code(place.account, selected.mailbox))
    client.tell_modseq()
    if args.condstore:
        client.modes.condstore = True
    if args.resync is not None and args.resync.uidvalidity == now.uidvalidity:
        await _resync(client, args.resync)


async def _tell_name(client: Client, name: str, mailbox: mailboxes.Mailbox) -> None:
    """LIST, which IMAP4rev2 requires (RFC 9051 §6.3.2)."""
    separator = client.context.separator
    words = []
    if not client.selected.is_foreign:  # whose children may not be for this client
        has_children = await client.read(lambda tx: mailboxes.has_children(tx, mailbox.name))
        words.append(b"\\HasChildren" if has_children else b"\\HasNoChildren")
        if mailbox.special_use:
            words.append(mailbox.special_use.encode("ascii"))
        name = to_wire(mailbox.name, separator)
    client.engine.send(responses.listing(words, separator, name, utf8=client.engine.utf8))


async def _resync(client: Client, known: Resync) -> None:
    """Tell what happened since the client was here last (RFC 7162 §3.2.5.1)."""
    view = client.selected.view
    wanted = [(1, view.uidnext - 1)] if known.uids is None else known.uids.ranges
    unknown = [(resync.known_up_to(view, known) + 1, view.uidnext - 1)]
    gone = await resync.vanished_since(client, known.modseq, resync.intersect(wanted, unknown))
    for part in resync.slices(gone):
        client.engine.send(vanished(part, earlier=True))
        await client.pause()
    changed = messages.to_ranges(await resync.changed_since(client, known.modseq))
    uids = SeqSet(tuple(resync.intersect(changed, wanted)))
    await send_items(client, Plan((UID, FLAGS, MODSEQ)), view.slices(uids, uid=True))


async def _load(
    client: Client, place: Place, *, read_only: bool
) -> tuple[Selected, mailboxes.Mailbox, int | None] | None:
    """The mailbox with a view of it, its state, and the UID of the first unseen message, all of one moment; None where
    that did not work out. Raises Refused NONEXISTENT."""
    store = client.context.store
    is_foreign = place.account != client.account.id
    mailbox = await store.read(place.account, lambda tx: mailboxes.get(tx, place.name))
    uids = client.context.snapshots.find(
        place.account, mailbox.id, mailbox.uidnext, mailbox.messages
    )
    if uids is None:
        uids = await load_uids(client, (place.account, mailbox.id), 1, mailbox.uidnext)
    view = View(uids, mailbox.uidnext, mailbox.modseq)
    selected = Selected(place.account, mailbox.id, view, read_only, [])
    selected.is_foreign, selected.rights = is_foreign, place.rights
    selected.uidvalidity = mailbox.uidvalidity
    await claim_recent(client, selected, mailbox)

    def work(tx: Tx) -> tuple[mailboxes.Mailbox, int | None] | None:
        now = mailboxes.by_id(tx, mailbox.id)
        found = changes.since(tx, mailbox.id, view.modseq, view.uidnext)
        if found is not None:
            if found.is_far or now.uidnext > view.uidnext + UIDS_A_SLICE:
                return None
            view.vanish(found.vanished)
            view.expunge()
            view.add(messages.uids(tx, mailbox.id, view.uidnext), now.uidnext)
            view.modseq = now.modseq
        view.told_modseq = view.flags_modseq = view.modseq
        if not is_foreign:  # keywords in other mailboxes of the owner are not for this client
            selected.keywords = keywords.all_names(tx)
        selected.look_for_room(tx)
        return now, messages.first_unseen(tx, mailbox.id) if now.unseen else None

    state = await store.read(place.account, work)
    return None if state is None else (selected, *state)


async def check(client: Client, args: None) -> Answer:
    """RFC 3501 §6.4.1. All that was acknowledged is durable already."""
    return Answer("Check completed.")


async def close(client: Client, args: None) -> Answer:
    """RFC 3501 §6.4.2: expunges without telling, if the mailbox is not read-only."""
    selected = client.selected
    if not selected.read_only and "e" in selected.rights:  # RFC 4314 §4
        with suppress(Refused):  # the mailbox was deleted: it is left, as by UNSELECT
            row = await client.read_selected(lambda tx: mailboxes.by_id(tx, selected.mailbox))
            if row.deleted:
                gone = await _expunge_all(client)
                tell_expunged(client, selected_place(client), gone, "CLOSE")
    client.selected_mailbox = None
    return Answer("Close completed.")


async def _expunge_all(client: Client) -> messages.Ranges:
    """The view knows of it, too: NOTIFY takes from there what the client knows (`watch`)."""
    selected = client.selected

    def work(tx: Tx) -> tuple[list[tuple[int, int]], int, int]:
        before = mailboxes.by_id(tx, selected.mailbox).modseq
        gone = messages.to_ranges(messages.expunge(tx, selected.mailbox, [(1, MOST_UIDS)]))
        return gone, before, mailboxes.by_id(tx, selected.mailbox).modseq

    gone, before, after = await client.write_selected(work)
    view = selected.view
    view.vanish(gone)
    view.expunge()
    if view.told_modseq == before:
        view.told_modseq = after
    return gone


async def unselect(client: Client, args: None) -> Answer:
    client.selected_mailbox = None
    return Answer("Unselect completed.")

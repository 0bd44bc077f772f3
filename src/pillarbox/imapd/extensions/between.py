"""COPY and MOVE into the file of another account (RFC 4314 §4): the messages are read, and stored there anew, all at
once and durable before MOVE removes them here. So a failure leaves them where they were, or in both."""

from dataclasses import dataclass

from pillarbox.core.errors import Refused
from pillarbox.core.flags import SEEN, SYSTEM_MASK
from pillarbox.imapd import own
from pillarbox.imapd.client import Client
from pillarbox.imapd.octets import read_piece
from pillarbox.imapd.places import Place
from pillarbox.imapd.upload import LARGEST_UPLOAD
from pillarbox.store import keywords, mailboxes, messages
from pillarbox.store.acl import flags_of
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import make_content
from pillarbox.store.messages import Ranges
from pillarbox.store.tx import Tx

MOST_MESSAGES = 1000
"""Of one command, and LARGEST_UPLOAD octets, since all of them are held until they are stored."""


@dataclass(slots=True)
class _Message:
    uid: int
    content: int
    internaldate: int
    flags: int
    keywords: tuple[bytes, ...]
    """In words: the other file has other numbers for them."""
    size: int


async def copy_between(
    client: Client, ranges: Ranges, place: Place, *, whole: bool
) -> tuple[list[int], list[Appended]]:
    """The UIDs of the messages that were there, and where their copies are; with `whole`, all of `ranges` in the view
    must be there. Raises Refused EXPUNGEISSUED, LIMIT, OVERQUOTA, TRYCREATE."""
    store = client.context.store
    target = await store.read(place.account, lambda tx: mailboxes.find(tx, place.name))
    if target is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    found = await _find(client, ranges)
    if whole and len(found) < sum(last - first + 1 for first, last in ranges):
        # RFC 2180 §4.4.1
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    items = []
    for message in found:
        items.append(await _item(client, message, target.id, place))
        await client.pause()
    if not items:
        return [], []
    before = await own.before_append(client, place.account, target.id)
    done = await store.append_all(place.account, items)
    own.note_appended(before, done, sum(not item.flags & SEEN for item in items))
    client.note_created(place.account, target.id, done[0].uid, len(done))
    return [message.uid for message in found], done


async def remove_moved(client: Client, uids: list[int]) -> int:
    """Remove what was copied; returns the mailbox's ModSeq."""
    mailbox = client.selected.mailbox
    ranges = messages.to_ranges(uids)

    def work(tx: Tx) -> int:
        messages.expunge(tx, mailbox, ranges, only_deleted=False)
        return mailboxes.by_id(tx, mailbox).modseq

    return await client.write_selected(work)


async def _find(client: Client, ranges: Ranges) -> list[_Message]:
    selected = client.selected
    columns = ("uid", "content", "internaldate", "flags", "size")

    def work(tx: Tx) -> list[_Message]:
        sizes = messages.select(tx, selected.mailbox, ranges, ("size",), MOST_MESSAGES + 1)
        if len(sizes) > MOST_MESSAGES or sum(size for (size,) in sizes) > LARGEST_UPLOAD:
            raise Refused(
                f"at most {MOST_MESSAGES} messages and {LARGEST_UPLOAD >> 20} MiB go to another account at once",
                "LIMIT",
            )
        rows = messages.select(tx, selected.mailbox, ranges, columns)
        return [
            _Message(uid, content, date, flags, keywords.names_of(tx, flags), size)
            for uid, content, date, flags, size in rows
        ]

    return await client.read_selected(work)


async def _item(client: Client, message: _Message, target: int, place: Place) -> Append:
    mailbox, place_of_it = client.selected.mailbox, [(message.uid, message.uid)]
    rows = await client.read_selected(
        lambda tx: messages.select(tx, mailbox, place_of_it, ("header",))
    )
    if not rows:
        raise Refused("some of the messages no longer exist", "EXPUNGEISSUED")
    pieces = [rows[0][0]]
    start, end = 0, message.size - len(pieces[0])
    while start < end:
        piece = await read_piece(client, message.content, start, end)
        pieces.append(piece)
        start += len(piece)
        await client.pause()
    octets = b"".join(pieces)
    content = await client.context.store.compute_sized(len(octets), lambda: make_content(octets))
    return Append(
        target,
        content,
        message.internaldate,
        message.flags & SYSTEM_MASK & flags_of(place.rights),
        message.keywords if "w" in place.rights else (),
        quota=client.quota(place.account),
        is_guest=place.account != client.account.id,
    )

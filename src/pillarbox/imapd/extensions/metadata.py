"""GETMETADATA and SETMETADATA (RFC 5464), with a mailbox's special use as an entry (RFC 6154 §4).

Annotations of "the server" are those of the session's account; of those that all users would share there is only
/shared/admin, which is made up.
"""

from functools import partial

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_metadata import GetMetadata, SetMetadata
from pillarbox.imapd import own
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.filters import ensure_search
from pillarbox.imapd.places import Place
from pillarbox.imapd.special_use import parse_special_uses
from pillarbox.store import mailboxes, metadata
from pillarbox.store.tx import Tx

ADMIN = "/shared/admin"
SPECIAL_USE = "/private/specialuse"
_PRIVATE = "/private"

_Entries = list[tuple[str, bytes | None]]


async def get_metadata(client: Client, args: GetMetadata) -> Answer:
    engine = client.engine
    longest = 0
    place = client.place(args.mailbox) if args.mailbox else Place(client.account.id, ())
    for entry in args.entries:
        found = await client.context.store.read(
            place.account,
            partial(_get, client, args=args, place=place, entry=entry),
        )
        told: _Entries = []
        for name, value in found:
            size = len(value or b"")
            if args.max_size is not None and size > args.max_size:
                longest = max(longest, size)
            else:
                told.append((name, value))
        if told:
            engine.send(responses.metadata(args.mailbox, told, engine.utf8))
        await client.pause()
    # RFC 5464 §4.2.1
    code = b"METADATA LONGENTRIES %d" % longest if longest else b""
    return Answer("Getmetadata completed.", code)


def _get(client: Client, tx: Tx, args: GetMetadata, place: Place, entry: str) -> _Entries:
    """One entry, NIL where it has no value, and what is below it."""
    if not args.mailbox:
        return _server_entries(client, tx, entry, args.depth)
    mailbox = mailboxes.get(tx, place.name)
    if place.account != client.account.id and entry.startswith(_PRIVATE):
        return [(entry, None)]  # what is private to the owner
    found: _Entries = list(metadata.get(tx, mailbox.id, entry, args.depth))
    if _is_wanted(SPECIAL_USE, entry, args.depth) and mailbox.special_use:
        found.append((SPECIAL_USE, mailbox.special_use.encode("ascii")))
    return found or [(entry, None)]


def _server_entries(client: Client, tx: Tx, entry: str, depth: int) -> _Entries:
    found: _Entries = list(metadata.get(tx, metadata.ACCOUNT, entry, depth))
    if _is_wanted(ADMIN, entry, depth):
        domain = client.account.address.rpartition("@")[2]
        found.append((ADMIN, f"mailto:postmaster@{domain}".encode()))
    return found or [(entry, None)]


def _is_wanted(name: str, entry: str, depth: int) -> bool:
    if name == entry:
        return True
    levels = name.count("/") - entry.count("/")
    return name.startswith(entry + "/") and (depth < 0 or levels <= depth)


async def set_metadata(client: Client, args: SetMetadata) -> Answer:
    place = client.place(args.mailbox) if args.mailbox else Place(client.account.id, ())
    if place.account != client.account.id and any(
        entry.startswith(_PRIVATE) for entry, _ in args.values
    ):
        # RFC 5464 §4.3
        raise Refused("mailboxes of others have no annotations of yours", "METADATA NOPRIVATE")
    if not args.mailbox:
        for entry, value in args.values:
            ensure_search(entry, value)

    def work(tx: Tx) -> None:
        if not args.mailbox:
            # RFC 5464 §3.3: they may be restricted
            if any(entry.startswith("/shared/") for entry, _ in args.values):
                raise Refused(
                    "annotations of the server itself are set by the administrator", "NOPERM"
                )
            metadata.set_all(tx, metadata.ACCOUNT, args.values)
            mailboxes.note_account_changed(tx)
            return
        mailbox = mailboxes.get(tx, place.name)
        plain = [(entry, value) for entry, value in args.values if entry != SPECIAL_USE]
        metadata.set_all(tx, mailbox.id, plain)
        for entry, value in args.values:
            if entry == SPECIAL_USE:
                uses = parse_special_uses((value or b"").split())
                mailboxes.set_special_use(tx, mailbox.id, uses)
        mailboxes.raise_modseq(tx, mailbox.id)

    await own.write(client, place.account, work, place.name)
    return Answer("Setmetadata completed.")

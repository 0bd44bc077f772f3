"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314): who else may use a mailbox, and how.

Identifiers are the user names of accounts, and "anyone", all accounts of this server; there are no negative rights. The
owner has every right for ever. Rights of a user are those given to it together with those of anyone. "p" is kept and
means nothing.
"""

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_acl import Acl
from pillarbox.imap.syntax_mailbox import Mailbox
from pillarbox.imapd.client import Answer, Client
from pillarbox.store import acl, mailboxes
from pillarbox.store.tx import Tx

_ANYONE = "anyone"


async def set_acl(client: Client, args: Acl) -> Answer:
    await _change(client, args, args.mode, args.rights)
    return Answer("Setacl completed.")


async def delete_acl(client: Client, args: Acl) -> Answer:
    await _change(client, args, "=", "")
    return Answer("Deleteacl completed.")


async def _change(client: Client, args: Acl, mode: str, rights: str) -> None:
    place = client.place(args.mailbox)
    grantee = _grantee(client, args.identifier)
    if grantee == place.account:
        raise Refused("the owner of a mailbox has every right", "CANNOT")
    store = client.context.store
    mailbox = await store.read(place.account, lambda tx: mailboxes.get(tx, place.name))
    await store.share(place.account, mailbox.id, grantee, mode, rights)


async def get_acl(client: Client, args: Mailbox) -> Answer:
    place = client.place(args.mailbox)
    directory = client.context.store.directory

    def work(tx: Tx) -> list[tuple[int, str]]:
        return acl.entries(tx, mailboxes.get(tx, place.name).id)

    told = []
    entries = await client.context.store.read(place.account, work)
    for grantee, rights in [(place.account, acl.RIGHTS), *entries]:
        account = directory.account_by_id(grantee) if grantee != acl.ANYONE else None
        if account is not None:
            told.append((account.address, shown(rights)))
        elif grantee == acl.ANYONE:
            told.append((_ANYONE, shown(rights)))
    client.engine.send(responses.acl(args.mailbox, told, client.engine.utf8))
    return Answer("Getacl completed.")


async def list_rights(client: Client, args: Acl) -> Answer:
    place = client.place(args.mailbox)
    await client.context.store.read(place.account, lambda tx: mailboxes.get(tx, place.name))
    rights = ["", *acl.RIGHTS, "c", "d"]
    if _grantee(client, args.identifier) == place.account:
        rights = [shown(acl.RIGHTS)]
    client.engine.send(
        responses.listrights(args.mailbox, args.identifier, rights, client.engine.utf8)
    )
    return Answer("Listrights completed.")


async def my_rights(client: Client, args: Mailbox) -> Answer:
    place = client.place(args.mailbox)
    await client.context.store.read(place.account, lambda tx: mailboxes.get(tx, place.name))
    client.engine.send(responses.myrights(args.mailbox, shown(place.rights), client.engine.utf8))
    return Answer("Myrights completed.")


def shown(rights: str) -> str:
    """With the rights of RFC 2086, which older clients know (RFC 4314 §2.1.1)."""
    create = "c" if set("kx") & set(rights) else ""
    delete = "d" if set("te") & set(rights) else ""
    return rights + create + delete


def _grantee(client: Client, identifier: str) -> int:
    """Raises Refused."""
    if identifier.startswith("-"):
        raise Refused("there are no negative rights here", "CANNOT")
    if identifier == _ANYONE:
        return acl.ANYONE
    account = client.context.store.directory.account_for_login(identifier)
    if account is None:
        raise Refused("there is no such user", "NONEXISTENT")
    return account.id

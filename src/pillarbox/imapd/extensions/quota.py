"""GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208). An account is one quota root, with the name "".

Limits are set by whoever runs the server (`pillarbox account quota`), so SETQUOTA is refused and QUOTASET not
announced.
"""

from pillarbox.core.errors import Refused
from pillarbox.imap import responses
from pillarbox.imap.syntax_mailbox import Mailbox
from pillarbox.imap.syntax_quota import QuotaRoot
from pillarbox.imapd.client import Answer, Client
from pillarbox.store import quota

_ROOT = b""


async def get_quota(client: Client, args: QuotaRoot) -> Answer:
    if args.name != _ROOT:
        raise Refused("there is no such quota root", "NONEXISTENT")
    await _tell(client)
    return Answer("Getquota completed.")


async def get_quota_root(client: Client, args: Mailbox) -> Answer:
    """The mailbox need not exist (RFC 9208 §4.1.2). How full the account of somebody else is, nobody is told."""
    if client.place(args.mailbox).account != client.account.id:
        client.engine.send(responses.quotaroot(args.mailbox, (), client.engine.utf8))
        return Answer("Getquotaroot completed.")
    client.engine.send(responses.quotaroot(args.mailbox, (_ROOT,), client.engine.utf8))
    await _tell(client)
    return Answer("Getquotaroot completed.")


async def set_quota(client: Client, args: QuotaRoot) -> Answer:
    raise Refused("quotas are set by the administrator", "NOPERM")


async def _tell(client: Client) -> None:
    limits = client.quota(client.account.id)
    used = await client.read(quota.usage)
    resources: list[tuple[bytes, int, int]] = []
    if limits.octets is not None:  # RFC 9208 §5.1: in units of 1024 octets
        resources.append((b"STORAGE", -(-used.octets // 1024), limits.octets // 1024))
    if limits.messages is not None:
        resources.append((b"MESSAGE", used.messages, limits.messages))
    client.engine.send(responses.quota(_ROOT, resources))

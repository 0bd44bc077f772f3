"""GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208). An account with limits is one quota root, with the name ""; one without
has none, for a quota root names at least one resource (RFC 9208 §7).

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
    resources = await _resources(client)
    if args.name != _ROOT or not resources:
        raise Refused("there is no such quota root", "NONEXISTENT")
    client.engine.send(responses.quota(_ROOT, resources))
    return Answer("Getquota completed.")


async def get_quota_root(client: Client, args: Mailbox) -> Answer:
    """The mailbox need not exist (RFC 9208 §4.1.2). How full the account of somebody else is, nobody is told."""
    is_own = client.place(args.mailbox).account == client.account.id
    resources = await _resources(client) if is_own else []
    roots = (_ROOT,) if resources else ()
    client.engine.send(responses.quotaroot(args.mailbox, roots, client.engine.utf8))
    if resources:
        client.engine.send(responses.quota(_ROOT, resources))
    return Answer("Getquotaroot completed.")


async def set_quota(client: Client, args: QuotaRoot) -> Answer:
    raise Refused("quotas are set by the administrator", "NOPERM")


async def _resources(client: Client) -> list[tuple[bytes, int, int]]:
    """(name, usage, limit) of what the account is limited in."""
    limits = client.quota(client.account.id)
    used = await client.read(quota.usage)
    resources: list[tuple[bytes, int, int]] = []
    if limits.octets is not None:  # RFC 9208 §5.1: in units of 1024 octets
        resources.append((b"STORAGE", -(-used.octets // 1024), limits.octets // 1024))
    if limits.messages is not None:
        resources.append((b"MESSAGE", used.messages, limits.messages))
    return resources

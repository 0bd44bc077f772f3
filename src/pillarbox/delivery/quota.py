"""Quotas of accounts on the way in, and the mail that tells an account that it is nearly full (RFC 9208).

Where nobody has a quota, nothing is read and nothing is done.
"""

import logging
from collections.abc import Iterable

from pillarbox.core.dates import format_rfc5322_date, pack_date
from pillarbox.core.errors import Failure
from pillarbox.core.size import format_size
from pillarbox.mime.build import format_field
from pillarbox.store import quota
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.quota import Quota, Usage
from pillarbox.store.store import Store

_TEXT = """\
Your mailboxes hold {used}. That is over {percent} per cent of what they may hold: {limit}.

When they are full, mail for you is refused and goes back to its senders. Please delete what you no longer need;
what is in the trash counts, too.
"""

log = logging.getLogger("pillarbox.delivery")


async def are_full(store: Store, accounts: Iterable[int], octets: int) -> bool:
    """Whether none of one or more accounts has room for a message of this size. Raises Unavailable.

    Where some have, the others get their copy, too: the sender has no way to ask for less.
    """
    directory = store.directory
    for account in accounts:
        limits = directory.quotas.of(account)
        if not limits.is_limited:
            return False
        used = await store.usage(account)
        if not limits.is_exceeded(Usage(used.octets + octets, used.messages + 1)):
            return False
    return True


def note_growth(store: Store, accounts: Iterable[int]) -> None:
    """Mail came in: those of the accounts that have a quota are looked at soon (`warn`)."""
    if store.directory.quotas.exist():
        store.grown.update(accounts)


async def warn(store: Store, hostname: str) -> None:
    """Tell the accounts that grew since the last time and are nearly full now. Failures are logged."""
    while store.grown:
        account = store.grown.pop()
        try:
            await _warn(store, account, hostname)
        except Failure as failure:
            known = store.directory.account_by_id(account)
            log.warning(
                "the mail that tells %s when its mailboxes are nearly full waits until more mail comes for it: %s",
                known.address if known is not None else f"account {account}",
                failure.told,
            )


async def _warn(store: Store, account: int, hostname: str) -> None:
    known, limits = store.directory.account_by_id(account), store.directory.quotas.of(account)
    if known is None or not limits.is_limited:
        return
    used = await store.read(account, quota.usage)
    if limits.warning(used) == await store.read(account, quota.told_warning):
        return
    percent = await store.write(account, lambda tx: quota.take_warning(tx, limits))
    if not percent:
        return
    now_s = int(store.clock())
    header = [
        b"Date: " + format_rfc5322_date(pack_date(now_s)) + b"\r\n",
        format_field("From", f"Mail Delivery System <postmaster@{hostname}>"),
        format_field("To", known.address),
        format_field("Subject", f"Your mailboxes are {percent} per cent full"),
        format_field("Message-ID", f"<quota-{account}-{now_s}@{hostname}>"),
        b"Auto-Submitted: auto-generated\r\n",  # RFC 3834 §5
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    ]
    text = _TEXT.format(percent=percent, used=_used(limits, used), limit=_limits(limits))
    content = make_content(b"".join(header) + text.replace("\n", "\r\n").encode())
    await store.append(account, Append(INBOX, content, pack_date(now_s)))
    log.info("%s was told that its mailboxes are %d per cent full", known.address, percent)


def _used(limits: Quota, used: Usage) -> str:
    return _both(
        None if limits.octets is None else used.octets,
        None if limits.messages is None else used.messages,
    )


def _limits(limits: Quota) -> str:
    return _both(limits.octets, limits.messages)


def _both(octets: int | None, messages: int | None) -> str:
    parts = [] if octets is None else [format_size(octets)]
    return " and ".join(parts if messages is None else [*parts, f"{messages} messages"])

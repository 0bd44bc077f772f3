"""Where mail to an address goes, and whether an address belongs to an account (RFC 5321 §3.6, §4.5.1)."""

import logging
from dataclasses import dataclass, field

from pillarbox.core.address import Address, canonical_domain, canonical_local
from pillarbox.core.errors import Refused
from pillarbox.delivery.aliases import Target, expand
from pillarbox.smtp.reply import MAILBOX_UNKNOWN, RELAY_DENIED, Reply
from pillarbox.store.directory import Account, Directory, canonical_address

POSTMASTER = "postmaster"

ALIAS_LOOP = Reply(451, "4.3.5", "The aliases of this address lead nowhere")
BAD_DOMAIN = Reply(550, "5.1.2", "The domain of the address is not a domain name")
NO_DOMAINS = Reply(451, "4.3.5", "No domain is set up here yet")
"""Where there is none: more likely the disk of the data folder is not mounted, or its path is wrong,
than that a host in the world's MX records should have none. A 550 would bounce all mail of its domains."""
NO_POSTMASTER = Reply(451, "4.3.5", "There is no account yet that could be postmaster")

log = logging.getLogger("pillarbox.delivery")


@dataclass(slots=True)
class Destination:
    """Who gets the mail of an address: one or more in all."""

    targets: list[Target]
    """Accounts here."""
    elsewhere: list[str]
    """Addresses at other hosts, for the queue."""
    how: str = ""
    """What the address was found by, if not by an account's own address or a tag: for the trace."""
    missing: list[str] = field(default_factory=list)
    """Addresses of our domains that an alias leads to, too, and that nobody has."""


def resolve(
    directory: Directory, address: Address, hostname: str, *, relay: bool
) -> Destination | Reply:
    """Where mail for `address` goes, or the refusing reply.

    Without `relay` (for strangers), a domain that is not ours is RELAY_DENIED (NO_DOMAINS where there is none); only an
    alias of ours leads to other hosts then. `hostname` tells whose postmaster `<postmaster>` without a domain is.
    Raises Unavailable.
    """
    local = canonical_local(address.local)
    try:
        domain = (
            canonical_domain(address.domain)
            if address.domain
            else home_domain(directory, canonical_domain(hostname))
        )
    except ValueError:
        return BAD_DOMAIN if relay else RELAY_DENIED
    if (
        local == POSTMASTER
        and domain == canonical_domain(hostname)
        and not directory.is_local(domain)
    ):
        domain = home_domain(directory, domain)  # our own reports come from that address
    canonical = f"{local}@{domain}"
    expansion = expand(directory, canonical)
    if canonical in expansion.elsewhere and address.domain:
        # RFC 5321 §2.4: what another host makes of the case of a local part is its business.
        if relay:
            return Destination([], [f"{address.local}@{domain}"])
        return RELAY_DENIED if directory.has_domains() else NO_DOMAINS
    for unknown in expansion.unknown:
        if unknown != canonical:
            log.warning("alias %s: there is no %s", canonical, unknown)
    if expansion.endless:
        problem = ALIAS_LOOP
    elif expansion.targets or (expansion.elsewhere and canonical not in expansion.elsewhere):
        where = (expansion.targets, expansion.elsewhere)
        return Destination(*where, expansion.how, expansion.unknown)
    else:
        problem = MAILBOX_UNKNOWN if expansion.unknown else ALIAS_LOOP
    if local == POSTMASTER:
        return _any_postmaster(directory, canonical)
    if problem is not MAILBOX_UNKNOWN:
        log.warning("%s: %s", canonical, problem.text)
    return problem


def home_domain(directory: Directory, hostname: str) -> str:
    """The local domain that a host name is or is in, else the first local domain, else the host name."""
    labels = hostname.split(".")
    for start in range(len(labels)):
        domain = ".".join(labels[start:])
        if directory.is_local(domain):
            return domain
    domains = directory.domains()
    return domains[0] if domains else hostname


def _any_postmaster(directory: Directory, postmaster: str) -> Destination | Reply:
    """Mail for a postmaster is always accepted (RFC 5321 §4.5.1): where its alias leads nowhere, by the oldest
    account of the domain, else by the oldest of all."""
    domain = postmaster.rpartition("@")[2]
    accounts = directory.accounts(domain) or directory.accounts()
    if not accounts:
        log.error("%s: there is no account that could get this mail", postmaster)
        return NO_POSTMASTER
    oldest = min(accounts, key=lambda account: account.id)
    log.warning("%s leads nowhere; its mail goes to %s", postmaster, oldest.address)
    return Destination([Target(oldest.id, oldest.address)], [], "the rule that postmaster has mail")


def owns(directory: Directory, account: Account, address: str) -> bool:
    """Whether `account` may send as `address` (any case): mail for it reaches the account, or it is an identity of it.

    So it does for its own address, with any tag, for aliases and catch-alls that lead to it, also among others, and
    for identities that it was given. Raises Unavailable.
    """
    try:
        canonical = canonical_address(address)
    except Refused:
        return False
    if canonical == account.address:
        return True
    targets = expand(directory, canonical).targets
    if any(target.account == account.id for target in targets):
        return True
    return directory.has_identity(account.id, canonical)

"""Whom the throttle refuses now, and how that is undone: for commands, which look at what all workers share.

What is forgiven counts at once in all of them. Attempts that are looked at in this moment may still fail, and count.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pillarbox.auth.throttle import ATTACKED_AT, MOST_OF_NETWORK, MOST_WITH_ACCOUNT, name_mark
from pillarbox.core.networks import NO_NETWORKS, Networks
from pillarbox.store.run import Failed, LoginFailures

UNKNOWN = "?"
"""In place of a name that no account has: only its hash is kept."""

_MOST = {"n": MOST_OF_NETWORK, "a": ATTACKED_AT, "p": MOST_WITH_ACCOUNT}
"""By the first letter of a key."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True, frozen=True)
class Refusal:
    """Attempts that are not looked at."""

    account: str
    """Its address, or UNKNOWN; "": any, but those that know the network."""
    network: str
    """"": any that is new to the account and had its few attempts."""
    failures: int
    until: float
    """Epoch seconds, if no other failure comes."""


def find_refusals(
    failures: LoginFailures, accounts: Iterable[str], now: float, exempt: Networks = NO_NETWORKS
) -> list[Refusal]:
    """All of this moment, by account and network. `accounts` are the addresses that there are; what `exempt` networks
    did is no reason for anything. Raises Unavailable."""
    found = []
    for failed, (kind, mark, network) in _split(failures.all()):
        most = _MOST[kind]
        count = failed.count(now, most)
        if count >= most and not _is_within(network, exempt):
            found.append((mark, Refusal("", network, count, failed.fewer_at(most))))
    names = {name_mark(address): address for address in accounts} if found else {}
    refusals = [
        Refusal(names.get(mark, UNKNOWN) if mark else "", each.network, each.failures, each.until)
        for mark, each in found
    ]
    return sorted(refusals, key=lambda each: (each.account, each.network))


def forgive_account(failures: LoginFailures, address: str) -> list[str]:
    """What failed with the account of a canonical address, from anywhere; returns the networks. Those that failed with
    others, too, keep their own count. Raises Unavailable."""
    wanted = name_mark(address)
    found = [each for each in _split(failures.all()) if each[1][1] == wanted]
    failures.forgive(failed.key for failed, _ in found)
    return [network for _, (_, _, network) in found]


def forgive_network(failures: LoginFailures, network: Network) -> int:
    """What failed from there, with any account; returns how many counts that were. Raises Unavailable."""
    found = [
        failed.key for failed, (_, _, each) in _split(failures.all()) if _overlaps(each, network)
    ]
    failures.forgive(found)
    return len(found)


def _split(all_failed: Iterable[Failed]) -> Iterator[tuple[Failed, tuple[str, str, str]]]:
    """With each, what its key says: the kind, the mark of a name or "", the network or ""."""
    for failed in all_failed:
        kind, _, rest = failed.key.partition(" ")
        if kind == "n":
            yield failed, (kind, "", rest)
        else:
            mark, _, network = rest.partition(" ")
            yield failed, (kind, mark, network)


def _network(text: str) -> Network | None:
    """None where a client had no IP address."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _overlaps(text: str, network: Network) -> bool:
    found = _network(text)
    return found is not None and found.version == network.version and found.overlaps(network)


def _is_within(text: str, networks: Networks) -> bool:
    """Whether all of it is: an IPv6 /64 of which one address is exempt is refused to the others."""
    found = _network(text) if networks.networks else None
    return found is not None and any(
        found.version == each.version
        and found.network_address in each
        and found.broadcast_address in each
        for each in networks.networks
    )

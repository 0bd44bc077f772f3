"""How guessing is slowed down, then refused, without keeping the owner out.

Failures are counted by network (an IPv4 address, an IPv6 /64), by account, and by account and network, in all workers
together (`store/run.py`). Names that do not exist count like accounts, so nothing here tells which do.

- Each failure from a network delays the answer longer: 1, 2, 4, 8, 16 s.
- 20 failures of one network with one account, or 50 with any: further attempts are refused unseen. They are forgiven at
  20 and 50 an hour.
- 100 failures of an account from anywhere: networks that are new to it have 3 attempts each.
- A network from which the account was logged in to in the last month is exempt from what others did: only its own
  failures with this account count. And the account as such is never locked, so its owner gets in from anywhere.
- An exchange that is begun and not brought to an end is a failure of its network, a few seconds later (`begun`).
- The same wrong password or token again counts once: a forgotten device locks nobody out. By SCRAM nobody can tell that
  it is the same, unless it is that of a void app password.
"""

import hashlib
import hmac
import ipaddress
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.auth.begun import Begun
from pillarbox.core.networks import NO_NETWORKS, Networks, network_of
from pillarbox.store.run import LoginFailures

MOST_WITH_ACCOUNT = 20
MOST_OF_NETWORK = 50
ATTACKED_AT = 100
MOST_OF_STRANGER = 3
"""With an account that is under attack."""

LONGEST_DELAY = 16
"""In units of the first delay."""

MOST_REMEMBERED = 10_000
"""Wrong passwords (as keyed hashes) that count no more."""

ONE_PROXY_LOGINS = 100
ONE_PROXY_NAMES = 5

log = logging.getLogger("pillarbox.auth")


@dataclass(slots=True, frozen=True)
class Claim:
    """Who somebody says to be, and from where."""

    name: str
    """The account's address, or what was said instead, made canonical; "": nothing, so failures count for the network
    only. Many may be behind that, and somebody's good token must not be refused for the bad ones of others."""
    account: int
    """0: there is none."""
    address: str
    shared_name: str = ""
    """What was said, where several accounts are called that, and `name` is the address of any."""

    @property
    def shown(self) -> str:
        """For the log and the trace."""
        return self.shared_name or self.name or "?"


class Throttle:
    """One for each process, over what all share."""

    def __init__(
        self,
        failures: LoginFailures,
        knows: Callable[[int, str], bool],
        exempt: Networks = NO_NETWORKS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`knows` says whether an account was logged in to from a network lately; `exempt` ones are never refused."""
        self._failures = failures
        self._knows = knows
        self._exempt = exempt
        self._begun = Begun(clock, self._given_up)
        self._key = os.urandom(32)
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._one_address = OneAddress()

    def refuses(self, claim: Claim) -> bool:
        """Whether this attempt is not even looked at."""
        self._one_address.see(claim.address, claim.name)
        self._begun.give_up_late()
        if claim.address in self._exempt:
            return False
        network, of_account, of_pair = _keys(claim)
        count = self._failures.count
        with_account = count(of_pair, MOST_WITH_ACCOUNT) if claim.name else 0
        if with_account >= MOST_WITH_ACCOUNT:
            return True
        is_bad = count(network, MOST_OF_NETWORK) >= MOST_OF_NETWORK
        is_attacked = (
            with_account >= MOST_OF_STRANGER and count(of_account, ATTACKED_AT) >= ATTACKED_AT
        )
        if not (is_bad or is_attacked):
            return False
        return not (claim.account and self._knows(claim.account, network_of(claim.address)))

    def began(self, claim: Claim) -> int:
        """An attempt that may never be brought to an end: then it is a failure of its network. Returns a number."""
        return self._begun.begin(network_of(claim.address))

    def ended(self, number: int) -> None:
        """An attempt that `began` has come to what succeeds or fails."""
        self._begun.end(number)

    def _given_up(self, network: str) -> None:
        self._failures.add(_of_network(network), MOST_OF_NETWORK)

    def failed(self, claim: Claim, password: bytes) -> float:
        """Count a failure; returns how long the answer shall wait, in units of the first delay."""
        network, of_account, of_pair = _keys(claim)
        if self._is_repeated(of_pair, password):
            failures = self._failures.count(network, MOST_OF_NETWORK)
        else:
            failures = self._failures.add(network, MOST_OF_NETWORK)
            if claim.name:
                self._add_with_account(claim, of_account, of_pair)
        return float(min(2 ** (failures // 5), LONGEST_DELAY))

    def _add_with_account(self, claim: Claim, of_account: str, of_pair: str) -> None:
        self._failures.add(of_pair, MOST_WITH_ACCOUNT)
        attacked = self._failures.add(of_account, ATTACKED_AT)
        if claim.account and attacked == ATTACKED_AT:
            log.warning(
                "%s: %d failed logins within an hour; networks that are new to it have few attempts now",
                claim.name,
                ATTACKED_AT,
            )

    def succeeded(self, claim: Claim) -> None:
        """The network's own failures with this account are forgotten, those with others are not."""
        self._failures.forget(_keys(claim)[2])

    def _is_repeated(self, of_pair: str, password: bytes) -> bool:
        mark = hmac.digest(self._key, of_pair.encode() + b"\0" + password, hashlib.sha256)
        if mark in self._seen:
            self._seen.move_to_end(mark)
            return True
        self._seen[mark] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return False


def _keys(claim: Claim) -> tuple[str, str, str]:
    """Of the network, of the account, of both; short whatever a client sends."""
    network = network_of(claim.address)
    name = name_mark(claim.name)
    return _of_network(network), f"a {name}", f"p {name} {network}"


def name_mark(name: str) -> str:
    """What stands for a name in the keys (`auth/refusals.py` reads them): a hash, for nobody shall find there what
    people typed."""
    return hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _of_network(network: str) -> str:
    return f"n {network}"


class OneAddress:
    """Warns once if all clients seem to come from one address: then a proxy hides them, and limits hit all at once."""

    def __init__(self) -> None:
        self._address = ""
        self._logins = 0
        self._names: set[str] = set()
        self._is_done = False

    def see(self, address: str, name: str) -> None:
        """An attempt to log in."""
        if self._is_done:
            return
        if (address != self._address and self._address) or _is_loopback(address):
            self._is_done = self._address != "" or self._is_done
            return
        self._address = address
        self._logins += 1
        if len(self._names) < ONE_PROXY_NAMES:
            self._names.add(name)
        if self._logins >= ONE_PROXY_LOGINS and len(self._names) >= ONE_PROXY_NAMES:
            self._is_done = True
            log.warning(
                "all logins so far came from %s: if that is a proxy, let it send PROXY headers and name it in"
                " security.proxy_protocol_from; else delays, refusals and bans hit all users together",
                address,
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return True

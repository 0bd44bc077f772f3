"""Whom the throttle refuses is told, and undone for an account or a network, while servers run."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.auth.refusals import (
    Refusal,
    find_refusals,
    forgive_account,
    forgive_network,
)
from pillarbox.auth.throttle import (
    ATTACKED_AT,
    MOST_OF_NETWORK,
    MOST_OF_STRANGER,
    MOST_WITH_ACCOUNT,
    Claim,
    Throttle,
)
from pillarbox.core.networks import NO_NETWORKS, Networks, parse_networks
from pillarbox.store import run
from pillarbox.store.run import FORGIVEN_S, LoginFailures

ALICE, BOB = "alice@example.org", "bob@example.org"
HOME, OTHER, SIX = "192.0.2.1", "198.51.100.7", "2001:db8:1::9"


class Rig:
    """Two workers, which share marks in memory, and what a command has, which does not."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0
        self.path = folder / "run.db"
        self.marks = memoryview(bytearray(run.MARKS_OCTETS))
        self.opened: list[LoginFailures] = []
        self.workers = [
            Throttle(self.open(self.marks), lambda _account, _network: False) for _ in range(2)
        ]
        self.command = self.open(None)
        self.number = 0

    def open(self, marks: memoryview | None) -> LoginFailures:
        self.opened.append(LoginFailures(self.path, clock=lambda: self.now, marks=marks))
        return self.opened[-1]

    def fail(self, count: int, name: str, address: str) -> None:
        """With another wrong password each time."""
        for _ in range(count):
            self.number += 1
            self.workers[0].failed(Claim(name, 1, address), b"%d" % self.number)

    def refused(self, name: str, address: str) -> bool:
        """All workers say the same."""
        (said,) = {worker.refuses(Claim(name, 1, address)) for worker in self.workers}
        return said

    def found(self, exempt: Networks = NO_NETWORKS) -> list[Refusal]:
        return find_refusals(self.command, [ALICE, BOB], self.now, exempt)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    for each in rig.opened:
        each.close()


def test_an_account_that_is_refused_is_told_with_its_network_and_end(rig: Rig) -> None:
    rig.fail(MOST_WITH_ACCOUNT - 1, ALICE, HOME)
    assert not rig.found()
    rig.fail(1, ALICE, HOME)
    (found,) = rig.found()
    assert found == Refusal(ALICE, HOME, MOST_WITH_ACCOUNT, rig.now + FORGIVEN_S / 20)
    rig.now = found.until - 1
    assert rig.refused(ALICE, HOME)
    rig.now += 2
    assert not rig.refused(ALICE, HOME)
    assert not rig.found()


def test_networks_as_such_and_accounts_under_attack_are_told(rig: Rig) -> None:
    for number in range(MOST_OF_NETWORK):
        rig.fail(1, f"user{number}@example.org", OTHER)
    for number in range(ATTACKED_AT):
        rig.fail(1, BOB, f"203.0.113.{number}")
    rig.fail(MOST_WITH_ACCOUNT, "nobody@example.org", SIX)
    assert [(each.account, each.network, each.failures) for each in rig.found()] == [
        ("", OTHER, MOST_OF_NETWORK),
        ("?", "2001:db8:1::/64", MOST_WITH_ACCOUNT),
        (BOB, "", ATTACKED_AT),
    ]


def test_networks_that_are_never_throttled_are_not_told(rig: Rig) -> None:
    rig.fail(MOST_WITH_ACCOUNT, ALICE, HOME)
    rig.fail(MOST_WITH_ACCOUNT, ALICE, SIX)
    assert not rig.found(parse_networks(["192.0.2.0/24", "2001:db8::/32"]))
    assert len(rig.found(parse_networks(["192.0.2.2", "2001:db8:1::9"]))) == 2


def test_an_account_that_is_forgiven_gets_in_by_every_worker_at_once(rig: Rig) -> None:
    for address in (HOME, OTHER):
        rig.fail(MOST_WITH_ACCOUNT, ALICE, address)
        rig.fail(MOST_WITH_ACCOUNT, BOB, address)
    assert rig.refused(ALICE, HOME)
    assert sorted(forgive_account(rig.command, ALICE)) == ["", HOME, OTHER]
    assert not rig.refused(ALICE, HOME)
    assert not rig.refused(ALICE, OTHER)
    assert rig.refused(BOB, HOME)
    assert forgive_account(rig.command, ALICE) == []
    rig.fail(MOST_WITH_ACCOUNT, ALICE, HOME)
    assert rig.refused(ALICE, HOME)  # it counts from the start again


def test_an_account_under_attack_that_is_forgiven_is_as_before(rig: Rig) -> None:
    for number in range(ATTACKED_AT):
        rig.fail(1, ALICE, f"203.0.113.{number}")
    rig.fail(MOST_OF_STRANGER, ALICE, HOME)
    assert rig.refused(ALICE, HOME)
    assert forgive_account(rig.command, ALICE)
    assert not rig.refused(ALICE, HOME)


def test_a_network_that_is_forgiven_may_try_all_accounts(rig: Rig) -> None:
    for address in (HOME, OTHER, SIX):
        rig.fail(MOST_WITH_ACCOUNT, ALICE, address)
        for number in range(MOST_OF_NETWORK):
            rig.fail(1, f"user{number}@example.org", address)
    assert forgive_network(rig.command, ipaddress.ip_network("192.0.2.0/24"))
    assert not rig.refused(ALICE, HOME)
    assert not rig.refused(BOB, HOME)
    assert rig.refused(BOB, SIX)
    assert forgive_network(rig.command, ipaddress.ip_network("2001:db8:1::77"))  # its /64 counts
    assert not rig.refused(BOB, SIX)
    assert rig.refused(BOB, OTHER)
    assert forgive_network(rig.command, ipaddress.ip_network("192.0.2.0/24")) == 0


def test_what_is_no_ip_address_disturbs_nothing(rig: Rig) -> None:
    rig.fail(MOST_WITH_ACCOUNT, ALICE, "unix")
    assert [each.network for each in rig.found(parse_networks(["192.0.2.0/24"]))] == ["unix"]
    assert forgive_network(rig.command, ipaddress.ip_network("0.0.0.0/0")) == 0

"""Guessing is slowed down, then refused; owners are not locked out by what others do elsewhere."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillarbox.auth import begun as begun_module
from pillarbox.auth.begun import LONGEST_S
from pillarbox.auth.begun import MOST_OF_NETWORK as MOST_BEGUN_OF_NETWORK
from pillarbox.auth.throttle import (
    ATTACKED_AT,
    MOST_OF_NETWORK,
    MOST_OF_STRANGER,
    MOST_WITH_ACCOUNT,
    ONE_PROXY_LOGINS,
    Claim,
    OneAddress,
    Throttle,
)
from pillarbox.core.networks import parse_networks
from pillarbox.store import run
from pillarbox.store.run import FORGIVEN_S, LoginFailures

OWNER, ATTACKER = "192.0.2.1", "198.51.100.7"


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_790_000_000.0
        self.known: set[tuple[int, str]] = set()
        self.failures = LoginFailures(folder / "run.db", clock=lambda: self.now)
        self.throttle = self.another()
        self.number = 0

    def another(self) -> Throttle:
        return Throttle(
            LoginFailures(self.folder / "run.db", clock=lambda: self.now),
            lambda account, network: (account, network) in self.known,
            parse_networks(["203.0.113.0/24"]),
            clock=lambda: self.now,
        )

    def guess(self, address: str, name: str = "bob", account: int = 1) -> bool:
        """A guess with a new wrong password; False: it was refused."""
        claim = Claim(name, account, address)
        if self.throttle.refuses(claim):
            return False
        self.number += 1
        self.throttle.failed(claim, b"%d" % self.number)
        return True

    def may_try(self, address: str) -> bool:
        return not self.throttle.refuses(Claim("bob", 1, address))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.failures.close()


def guesses(rig: Rig, count: int, guess: Callable[[int], bool]) -> int:
    return sum(guess(number) for number in range(count))


def test_delays_grow_to_a_limit(rig: Rig) -> None:
    claim = Claim("bob", 1, ATTACKER)
    delays = [rig.throttle.failed(claim, b"%d" % number) for number in range(30)]
    assert delays[0] == 1
    assert delays == sorted(delays)
    assert set(delays) == {1, 2, 4, 8, 16}


def test_one_network_has_few_guesses_at_an_account_and_more_at_others(rig: Rig) -> None:
    assert guesses(rig, 100, lambda _: rig.guess(ATTACKER)) == MOST_WITH_ACCOUNT
    others = guesses(rig, 100, lambda number: rig.guess(ATTACKER, f"user{number}", 2 + number))
    assert others == MOST_OF_NETWORK - MOST_WITH_ACCOUNT


def test_what_is_forgiven_meanwhile_makes_no_limit_higher(rig: Rig) -> None:
    """A failure that is forgiven in part counts whole, also for how long the next one waits."""

    def guess(address: str, name: str = "bob", account: int = 1) -> bool:
        rig.now += 0.2
        return rig.guess(address, name, account)

    assert guesses(rig, 30, lambda _: guess(ATTACKER)) == MOST_WITH_ACCOUNT
    others = guesses(rig, 60, lambda each: guess("192.0.2.7", f"user{each}", 2 + each))
    assert others == MOST_OF_NETWORK
    for number in range(ATTACKED_AT):
        guess(f"198.51.99.{number}")
    assert guesses(rig, 9, lambda _: guess("203.0.112.9")) == MOST_OF_STRANGER
    delays = []
    for number in range(10):
        rig.now += 0.2
        delays.append(rig.throttle.failed(Claim(f"user{number}", 0, "192.0.2.8"), b"x"))
    assert delays == [1] * 4 + [2] * 5 + [4]


def test_a_refusal_ends_by_itself(rig: Rig) -> None:
    guesses(rig, 100, lambda _: rig.guess(ATTACKER))
    assert not rig.may_try(ATTACKER)
    rig.now += FORGIVEN_S / MOST_WITH_ACCOUNT + 1
    assert guesses(rig, 10, lambda _: rig.guess(ATTACKER)) in (1, 2)
    rig.now += 2 * FORGIVEN_S
    assert guesses(rig, 100, lambda _: rig.guess(ATTACKER)) == MOST_WITH_ACCOUNT


def test_an_attacker_elsewhere_does_not_lock_out_the_owner(rig: Rig) -> None:
    for number in range(3 * ATTACKED_AT):
        rig.guess(f"198.51.{number // 250}.{number % 250}")
    assert rig.may_try(OWNER)  # from a network that is new, too
    rig.known.add((1, OWNER))
    for _ in range(MOST_WITH_ACCOUNT - 1):
        assert rig.guess(OWNER)  # who mistypes it from home has many attempts even then


def test_many_networks_together_have_few_guesses_each_at_an_attacked_account(rig: Rig) -> None:
    for number in range(2 * ATTACKED_AT):
        rig.guess(f"198.51.{number // 250}.{number % 250}")
    assert guesses(rig, 100, lambda _: rig.guess("203.0.112.9")) == MOST_OF_STRANGER


def test_an_owner_behind_the_attackers_address_gets_in_where_he_was_before(rig: Rig) -> None:
    guesses(rig, 200, lambda number: rig.guess(OWNER, f"user{number}", 2 + number))
    assert not rig.may_try(OWNER)
    rig.known.add((1, OWNER))
    assert rig.may_try(OWNER)


def test_a_success_does_not_wipe_failures_with_other_accounts(rig: Rig) -> None:
    guesses(rig, 200, lambda number: rig.guess(ATTACKER, f"user{number}", 2 + number))
    rig.throttle.succeeded(Claim("mallory", 99, ATTACKER))
    assert not rig.guess(ATTACKER, "user500", 502)


def test_unknown_names_are_treated_like_accounts(rig: Rig) -> None:
    assert guesses(rig, 100, lambda _: rig.guess(ATTACKER, "nobody", 0)) == MOST_WITH_ACCOUNT


def test_the_same_wrong_password_counts_once(rig: Rig) -> None:
    claim = Claim("bob", 1, OWNER)
    for _ in range(1000):
        assert rig.throttle.failed(claim, b"the old password") == 1
    assert rig.may_try(OWNER)


def test_allowed_networks_are_never_refused(rig: Rig) -> None:
    assert guesses(rig, 200, lambda _: rig.guess("203.0.113.9")) == 200


def test_all_workers_count_together(rig: Rig) -> None:
    other = rig.another()
    guesses(rig, MOST_WITH_ACCOUNT, lambda _: rig.guess(ATTACKER))
    assert other.refuses(Claim("bob", 1, ATTACKER))


def test_who_has_not_failed_costs_no_question(tmp_path: Path) -> None:
    """And what one worker counts, another one asks for at once."""
    now = [1_790_000_000.0]
    marks = memoryview(bytearray(run.MARKS_OCTETS))
    here, there = (
        LoginFailures(tmp_path / "run.db", clock=lambda: now[0], marks=marks) for _ in range(2)
    )
    there.close()
    there._connection = None  # so a question would raise
    assert there.count("n 192.0.2.1", 50) == 0
    assert here.add("n 192.0.2.1", 50) == 1
    with pytest.raises(AttributeError):
        there.count("n 192.0.2.1", 50)
    for _ in range(200):
        here.add("n 192.0.2.1", 50)
    now[0] += 2 * FORGIVEN_S - 1
    assert here.count("n 192.0.2.1", 50) == 1
    now[0] += 1
    assert here.count("n 192.0.2.1", 50) == there.count("n 192.0.2.1", 50) == 0
    here.close()


def test_memory_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_KEYS", 100)
    for number in range(2000):
        rig.failures.add(f"n {number}", 50)
    rows = rig.failures._connection.execute("SELECT count(*) FROM login_failure").fetchone()
    assert rows[0] <= 100 + 256


def test_an_exchange_under_way_for_too_long_is_a_failure_whatever_becomes_of_it(rig: Rig) -> None:
    claim = Claim("bob", 1, ATTACKER)
    numbers = [rig.throttle.began(claim) for _ in range(MOST_OF_NETWORK + 1)]
    rig.now += LONGEST_S - 1
    assert rig.may_try(ATTACKER)
    rig.throttle.ended(numbers.pop())
    rig.now += 2
    assert not rig.may_try(ATTACKER)
    for number in numbers:
        rig.throttle.ended(number)
    assert not rig.may_try(ATTACKER)


def test_exchanges_under_way_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim("bob", 1, ATTACKER)
    for _ in range(MOST_BEGUN_OF_NETWORK + MOST_OF_NETWORK - 1):
        rig.throttle.began(claim)
    assert rig.may_try(ATTACKER)
    rig.throttle.began(claim)
    assert not rig.may_try(ATTACKER)
    monkeypatch.setattr(begun_module, "MOST", 300)
    for number in range(1000):
        rig.throttle.began(Claim("bob", 1, f"198.51.{number // 250}.{number % 250}"))
    assert len(rig.throttle._begun) == 300
    assert rig.failures.count("n 198.51.0.0", MOST_OF_NETWORK) == 1
    assert rig.failures.count("n 198.51.3.249", MOST_OF_NETWORK) == 0


def test_a_proxy_that_hides_all_clients_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    seen = OneAddress()
    with caplog.at_level(logging.WARNING, "pillarbox.auth"):
        for number in range(3 * ONE_PROXY_LOGINS):
            seen.see("10.0.0.5", f"user{number % 9}")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "10.0.0.5" in caplog.text


def test_every_attempt_to_log_in_counts_towards_that_warning(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Right or wrong, refused or not, and from networks that are exempt, too: a proxy's often is."""
    with caplog.at_level(logging.WARNING, "pillarbox.auth"):
        for number in range(ONE_PROXY_LOGINS):
            rig.throttle.refuses(Claim(f"user{number % 9}", number % 9, "203.0.113.5"))
    (record,) = caplog.records
    assert "203.0.113.5" in record.message
    assert "security.proxy_protocol_from" in record.message


def test_clients_from_several_addresses_are_no_proxy(caplog: pytest.LogCaptureFixture) -> None:
    seen = OneAddress()
    for number in range(3 * ONE_PROXY_LOGINS):
        seen.see(f"10.0.0.{number % 2}", f"user{number % 9}")
    assert not caplog.records

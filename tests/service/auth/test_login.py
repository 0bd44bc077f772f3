"""Logins: alike for unknown users and wrong passwords, cheap after the first, void at once after a change."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pillarbox.auth import lines
from pillarbox.auth.login import Authenticator
from pillarbox.auth.passwords import check_new_password, hash_password, verify_password
from pillarbox.auth.peer import Login, Peer
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import network_of
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.run import FORGIVEN_S, LoginFailures

PEER = Peer("192.0.2.1", "imap")
CREDENTIALS = hash_password(Secret("right password"))


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0
        self.directory = Directory(folder / "directory.db", clock=lambda: self.now)
        self.directory.add_domain("example.test")
        self.account = self.directory.add_account("bob@example.test", *CREDENTIALS)
        self.failures = LoginFailures(folder / "run.db", clock=lambda: self.now)
        self.authenticator = Authenticator(self.directory, self.failures, failure_delay_s=0.01)

    async def login(self, password: str, user: str = "bob@example.test") -> bool:
        credentials = Credentials("", user, Secret(password))
        return isinstance(await self.authenticator.login(credentials, PEER), Login)


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await scenario(rig)
            rig.authenticator.close()

        asyncio.run(main())

    return run


def test_the_right_password_works_and_then_costs_nothing(run) -> None:
    async def scenario(rig: Rig) -> None:
        assert await rig.login("right password")
        begin = time.process_time()
        for _ in range(20):
            assert await rig.login("right password", "BOB")
        assert time.process_time() - begin < 0.1  # one proof costs microseconds, one hash 50 ms

    run(scenario)


@pytest.mark.parametrize("user", ["bob@example.test", "nobody@example.test", "", "x" * 5000])
def test_wrong_passwords_and_unknown_users_fail(run, user: str) -> None:
    async def scenario(rig: Rig) -> None:
        for password in ("wrong password", "", "x" * 100_000):
            assert not await rig.login(password, user)

    run(scenario)


def test_a_proof_is_void_at_once_when_another_process_changes_the_password(
    run, tmp_path: Path
) -> None:
    async def scenario(rig: Rig) -> None:
        assert await rig.login("right password")
        other = Directory(tmp_path / "directory.db", clock=lambda: rig.now)
        other.credentials.set_password(rig.account.id, *hash_password(Secret("new password")))
        assert not await rig.login("right password")
        assert await rig.login("new password")
        other.set_enabled(rig.account.id, enabled=False)
        assert not await rig.login("new password")
        other.set_enabled(rig.account.id, enabled=True)
        assert await rig.login("new password")
        other.close()

    run(scenario)


@pytest.mark.parametrize("name", ["MOST_WAITING", "MOST_IN_LINE"])
def test_too_many_waiting_logins_are_told_to_come_back(run, monkeypatch, name: str) -> None:
    monkeypatch.setattr(lines, name, 3)

    async def scenario(rig: Rig) -> None:
        results = await asyncio.gather(
            *(rig.login(f"wrong {number}") for number in range(6)), return_exceptions=True
        )
        assert sum(isinstance(result, Unavailable) for result in results) == 3

    run(scenario)


def test_failures_are_counted_by_network_and_forgotten(run) -> None:
    async def scenario(rig: Rig) -> None:
        assert [rig.failures.add("n", 10) for _ in range(3)] == pytest.approx([1, 2, 3])
        rig.now += FORGIVEN_S / 10
        assert rig.failures.count("n", 10) == pytest.approx(2)
        rig.now += FORGIVEN_S
        assert rig.failures.add("n", 10) == pytest.approx(1)

    run(scenario)


def test_networks() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"


def test_a_password_typed_in_another_way_is_the_same() -> None:
    password_hash, scram = hash_password(Secret("pa\u00a0ss\u2168word"))
    assert verify_password(password_hash, Secret("pa ssIXword"))
    assert not verify_password("", Secret("anything"))
    assert scram.startswith("SCRAM-SHA-256$16384:")


@pytest.mark.parametrize("password", ["", "short", "x" * 2000, "bell\x07bell bell"])
def test_bad_new_passwords_are_refused(password: str) -> None:
    with pytest.raises(Refused):
        check_new_password(Secret(password))


def test_failed_logins_count_in_all_workers(tmp_path: Path) -> None:
    here, there = (LoginFailures(tmp_path / "run.db", clock=lambda: 1.0) for _ in range(2))
    assert [each.add("192.0.2.1", 50) for each in (here, there, here)] == pytest.approx([1, 2, 3])
    there.forget("192.0.2.1")
    assert here.add("192.0.2.1", 50) == pytest.approx(1)
    here.close()
    there.close()

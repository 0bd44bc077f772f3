"""Many attempts to log in at once: no more guesses than one after another, nobody else waits, no owner is refused."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from scram_client import ScramClient

from pillarbox.auth import lines
from pillarbox.auth import login as login_module
from pillarbox.auth.exchange import Exchange
from pillarbox.auth.login import Authenticator
from pillarbox.auth.outcomes import TOO_MANY, WRONG
from pillarbox.auth.passwords import hash_password
from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.auth.throttle import ATTACKED_AT, MOST_OF_NETWORK, MOST_WITH_ACCOUNT, Claim
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Challenge, Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.run import LoginFailures

RIGHT = "right password"
ATTACKER, OTHER = "198.51.100.7", "192.0.2.1"
BURST = 90
HASHES = hash_password(Secret(RIGHT))


class Rig:
    """Two workers."""

    def __init__(self, folder: Path, hashed: list[str]) -> None:
        self.hashed = hashed
        """Passwords, in the order in which they were looked at."""
        self.directory = Directory(folder / "directory.db", clock=lambda: 1000.0)
        self.directory.add_domain("example.test")
        self.bob = self.directory.add_account("bob@example.test", *HASHES)
        self.workers = [
            Authenticator(
                self.directory,
                LoginFailures(folder / "run.db", clock=lambda: 1000.0),
                failure_delay_s=0,
            )
            for _ in range(2)
        ]

    async def plain(
        self,
        password: str,
        address: str = ATTACKER,
        user: str = "bob@example.test",
        worker: int = 0,
    ) -> Login | Denied:
        credentials = Credentials("", user, Secret(password))
        return await self.workers[worker].login(credentials, Peer(address, "imap"), "PLAIN")

    async def scram(self, password: str, begun: asyncio.Barrier, worker: int = 0) -> Login | Denied:
        """The client's proof is sent when all that `begun` is for have a challenge."""
        client = ScramClient("bob@example.test", password)
        exchange = Exchange(self.workers[worker], "SCRAM-SHA-256", Peer(ATTACKER, "imap"))
        step = await exchange.start(client.first())
        assert isinstance(step, Challenge)
        await begun.wait()
        step = await exchange.respond(client.final(step.data))
        if isinstance(step, Challenge):
            step = await exchange.respond(b"")
        assert not isinstance(step, Challenge)
        return step


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hashed: list[str] = []

    def verify(password_hash: str, password: Secret) -> bool:
        hashed.append(password.reveal())
        return bool(password_hash) and password.reveal() == RIGHT

    monkeypatch.setattr(login_module, "verify_password", verify)
    monkeypatch.setattr(login_module, "fitting_verifier", lambda *_: -1)

    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path, hashed)
            await scenario(rig)
            for worker in rig.workers:
                worker.close()
            rig.directory.close()

        asyncio.run(main())

    return run


def count(outcomes: list[Login | Denied], text: str) -> int:
    return sum(isinstance(each, Denied) and each.text == text for each in outcomes)


@pytest.mark.parametrize("workers", [1, 2])
def test_guesses_at_once_are_as_few_as_one_after_another(run, workers: int) -> None:
    async def scenario(rig: Rig) -> None:
        guesses = (rig.plain(f"wrong {each}", worker=each % workers) for each in range(BURST))
        outcomes = await asyncio.gather(*guesses)
        assert MOST_WITH_ACCOUNT <= len(rig.hashed) < MOST_WITH_ACCOUNT + 2 * workers
        assert count(outcomes, TOO_MANY) == BURST - len(rig.hashed)

    run(scenario)


def test_guesses_at_many_accounts_at_once_are_few_too(run) -> None:
    async def scenario(rig: Rig) -> None:
        users = (f"user{each}@example.test" for each in range(BURST))
        await asyncio.gather(*(rig.plain("wrong password", user=user) for user in users))
        assert MOST_OF_NETWORK <= len(rig.hashed) <= MOST_OF_NETWORK + 1

    run(scenario)


@pytest.mark.parametrize("workers", [1, 2])
def test_exchanges_of_scram_that_were_begun_together_are_few_guesses(run, workers: int) -> None:
    async def scenario(rig: Rig) -> None:
        begun = asyncio.Barrier(BURST // 2)
        guesses = (
            rig.scram(f"wrong {each}", begun, worker=each % workers) for each in range(BURST // 2)
        )
        outcomes = await asyncio.gather(*guesses)
        assert count(outcomes, WRONG) == MOST_WITH_ACCOUNT
        assert count(outcomes, TOO_MANY) == BURST // 2 - MOST_WITH_ACCOUNT

    run(scenario)


def test_passwords_and_proofs_at_once_are_as_many_as_the_page_says(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passwords are looked at while a proof makes the limit full."""
    gate = threading.Event()

    async def scenario(rig: Rig) -> None:
        loop, under_way = asyncio.get_running_loop(), asyncio.Semaphore(0)

        def verify_late(_hash: str, _password: Secret) -> bool:
            loop.call_soon_threadsafe(under_way.release)
            assert gate.wait(20)
            return False

        monkeypatch.setattr(login_module, "verify_password", verify_late)
        claim = Claim("bob@example.test", rig.bob.id, ATTACKER)
        for each in range(MOST_WITH_ACCOUNT - 1):
            rig.workers[0]._throttle.failed(claim, b"%d" % each)
        burst = [asyncio.create_task(rig.plain(f"wrong {each}")) for each in range(BURST)]
        for _ in range(login_module.HASHED_AT_ONCE):
            await under_way.acquire()
        begun = asyncio.Barrier(2)
        proofs = await asyncio.gather(*(rig.scram(f"wrong {each}", begun) for each in range(2)))
        assert count(proofs, WRONG) == count(proofs, TOO_MANY) == 1
        gate.set()
        outcomes = await asyncio.gather(*burst)
        assert count(outcomes, WRONG) == login_module.HASHED_AT_ONCE
        assert count(outcomes, TOO_MANY) == BURST - login_module.HASHED_AT_ONCE

    run(scenario)


def test_many_attempts_of_a_network_hold_up_no_other_one(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    async def scenario(rig: Rig) -> None:
        verify = login_module.verify_password

        def verify_late(password_hash: str, password: Secret) -> bool:
            assert gate.wait(20)
            return verify(password_hash, password)

        monkeypatch.setattr(login_module, "verify_password", verify_late)
        burst = [asyncio.create_task(rig.plain(f"wrong {each}")) for each in range(BURST)]
        await asyncio.sleep(0.01)
        owner = asyncio.create_task(rig.plain(RIGHT, OTHER))
        await asyncio.sleep(0.01)
        gate.set()
        assert isinstance(await owner, Login)
        await asyncio.gather(*burst)
        assert rig.hashed.index(RIGHT) <= login_module.HASHED_AT_ONCE + 1

    run(scenario)


def test_one_network_does_not_fill_the_place_that_there_is(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_WAITING", 10)
    monkeypatch.setattr(lines, "MOST_IN_LINE", 9)

    async def scenario(rig: Rig) -> None:
        attempts = [rig.plain(f"wrong {each}") for each in range(BURST)]
        attempts.append(rig.plain(RIGHT, OTHER))
        *outcomes, owner = await asyncio.gather(*attempts, return_exceptions=True)
        assert isinstance(owner, Login)
        assert sum(isinstance(each, Unavailable) for each in outcomes) == BURST - 9

    run(scenario)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM"])
@pytest.mark.parametrize("is_attacked", [False, True])
def test_an_owner_with_many_clients_at_once_is_never_refused(
    run, mechanism: str, is_attacked: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        if is_attacked:
            for number in range(ATTACKED_AT + 5):
                claim = Claim("bob@example.test", rig.bob.id, f"203.0.113.{number}")
                rig.workers[0]._throttle.failed(claim, b"guess")
        begun = asyncio.Barrier(40)
        attempts = (
            rig.plain(RIGHT) if mechanism == "PLAIN" else rig.scram(RIGHT, begun) for _ in range(40)
        )
        outcomes = await asyncio.gather(*attempts)
        assert all(isinstance(each, Login) for each in outcomes)
        assert len(rig.hashed) <= login_module.HASHED_AT_ONCE  # the others heard of it

    run(scenario)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_remembered_password_makes_no_more_guesses(run, workers: int) -> None:
    """Where it is right it is refused unseen like any other; the owner gets in from elsewhere."""

    async def scenario(rig: Rig) -> None:
        for worker in range(workers):
            assert isinstance(await rig.plain(RIGHT, OTHER, worker=worker), Login)
        rig.hashed.clear()
        # In each worker the right one stands behind as many guesses as may be looked at: one may be far ahead of the
        # other.
        most = MOST_WITH_ACCOUNT + 2 * workers
        words = [f"wrong {each}" for each in range(most * workers)] + [RIGHT] * workers
        guesses = (rig.plain(word, worker=each % workers) for each, word in enumerate(words))
        outcomes = await asyncio.gather(*guesses)
        assert len(rig.hashed) < most
        assert not any(isinstance(each, Login) for each in outcomes)
        for user in ("bob@example.test", "bob"):
            assert await rig.plain(RIGHT, user=user) == Denied(TOO_MANY)
        assert isinstance(await rig.plain(RIGHT, OTHER), Login)

    run(scenario)


def test_a_refused_network_hears_the_same_of_all_names(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no more may wait."""

    async def scenario(rig: Rig) -> None:
        for each in range(MOST_OF_NETWORK):
            await rig.plain(f"wrong {each}", user=f"user{each}@example.test")
        monkeypatch.setattr(lines, "MOST_WAITING", 0)
        for user in ("bob@example.test", "nobody@example.test", "nobody"):
            assert await rig.plain(RIGHT, user=user) == Denied(TOO_MANY)

    run(scenario)

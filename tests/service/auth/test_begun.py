"""Exchanges of SCRAM that are begun only: they count, and their first answer tells nothing about who exists."""

import asyncio
import base64
import imaplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scram_client import ScramClient

from pillarbox.auth.begun import LONGEST_S
from pillarbox.auth.exchange import Exchange, Outcome
from pillarbox.auth.login import Authenticator
from pillarbox.auth.outcomes import TOO_MANY, WRONG
from pillarbox.auth.passwords import hash_password, parse_verifier
from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.auth.throttle import MOST_OF_NETWORK
from pillarbox.core.networks import network_of
from pillarbox.core.secret import Secret
from pillarbox.imapd.commands.login import MOST_LOGIN_FAILURES
from pillarbox.sasl.exchange import Challenge
from pillarbox.store.directory import Directory
from pillarbox.store.directory_file import DirectoryFile
from pillarbox.store.run import FORGIVEN_S, LoginFailures
from pillarbox.testing import MailServer

RIGHT = "right password"
HASHES = hash_password(Secret(RIGHT))
ATTACKER, OTHER = "198.51.100.7", "192.0.2.1"
BOB = "bob@example.test"


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0
        self.directory = Directory(folder / "directory.db", clock=lambda: self.now)
        for domain in ("example.test", "second.test", "third.test"):
            self.directory.add_domain(domain)
        self.directory.add_account(BOB, *HASHES)
        self.failures = LoginFailures(folder / "run.db", clock=lambda: self.now)
        self.authenticator = Authenticator(
            self.directory,
            self.failures,
            clock=lambda: self.now,
            failure_delay_s=0,
        )

    async def begin(self, user: str, address: str = ATTACKER) -> tuple[Exchange, Outcome]:
        exchange = Exchange(self.authenticator, "SCRAM-SHA-256", Peer(address, "imap"))
        return exchange, await exchange.start(ScramClient(user, RIGHT).first())

    async def scram(self, user: str, password: str, address: str = ATTACKER) -> Login | Denied:
        client = ScramClient(user, password)
        exchange = Exchange(self.authenticator, "SCRAM-SHA-256", Peer(address, "imap"))
        step = await exchange.start(client.first())
        if isinstance(step, Challenge):
            step = await exchange.respond(client.final(step.data))
        if isinstance(step, Challenge):
            step = await exchange.respond(b"")
        assert not isinstance(step, Challenge)
        return step

    async def begin_many(
        self, count: int, address: str
    ) -> list[tuple[ScramClient, Exchange, bytes]]:
        begun = []
        for _ in range(count):
            client = ScramClient(BOB, RIGHT)
            exchange = Exchange(self.authenticator, "SCRAM-SHA-256", Peer(address, "imap"))
            step = await exchange.start(client.first())
            assert isinstance(step, Challenge)
            begun.append((client, exchange, step.data))
        return begun

    async def end_well(self, begun: list[tuple[ScramClient, Exchange, bytes]]) -> None:
        for client, exchange, challenge in begun:
            assert isinstance(await exchange.respond(client.final(challenge)), Challenge)
            assert isinstance(await exchange.respond(b""), Login)

    async def salt(self, user: str) -> bytes:
        _, step = await self.begin(user, OTHER)
        assert isinstance(step, Challenge)
        values = dict(part.split("=", 1) for part in step.data.decode().split(","))
        return base64.b64decode(values["s"])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.authenticator.close()
    rig.directory.close()


@pytest.mark.parametrize("nonsense", [None, b"", b"nonsense", b"c=biws,r=another,p=AAAA"])
def test_exchanges_without_an_end_are_failures_of_their_network(
    rig: Rig, nonsense: bytes | None
) -> None:
    async def scenario() -> None:
        for number in range(MOST_OF_NETWORK):
            exchange, step = await rig.begin(f"user{number}@example.test")
            assert isinstance(step, Challenge)
            if nonsense is not None:
                step = await exchange.respond(nonsense)
                assert isinstance(step, Denied)
                assert step.is_syntax
        rig.now += LONGEST_S
        assert (await rig.begin(BOB))[1] == Denied(TOO_MANY)
        assert isinstance(await rig.scram(BOB, RIGHT, OTHER), Login)
        rig.now += FORGIVEN_S / MOST_OF_NETWORK + 1
        assert isinstance(await rig.scram(BOB, RIGHT), Login)

    asyncio.run(scenario())


def test_exchanges_that_succeed_are_no_failures(rig: Rig) -> None:
    async def scenario() -> None:
        for _ in range(2 * MOST_OF_NETWORK):
            assert isinstance(await rig.scram(BOB, RIGHT), Login)

    asyncio.run(scenario())


def test_many_right_passwords_at_once_are_not_refused(rig: Rig) -> None:
    """An office behind one address, when the server is back."""

    async def scenario() -> None:
        begun = await rig.begin_many(90, OTHER)
        rig.now += LONGEST_S / 2
        await rig.end_well(begun)
        rig.now += LONGEST_S
        assert rig.failures.count(f"n {network_of(OTHER)}", MOST_OF_NETWORK) == 0

    asyncio.run(scenario())


def test_exchanges_that_succeed_take_no_failure_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has an account may begin many and bring them to an end, also where its network is refused otherwise."""
    monkeypatch.setattr(rig.authenticator._throttle, "_knows", lambda *_: True)

    async def scenario() -> None:
        for number in range(MOST_OF_NETWORK):
            outcome = await rig.scram(f"user{number}@example.test", "wrong")
            assert isinstance(outcome, Denied)
            assert outcome.text == WRONG
        assert await rig.scram("one-more@example.test", "wrong") == Denied(TOO_MANY)
        await rig.end_well(await rig.begin_many(3 * MOST_OF_NETWORK, ATTACKER))
        assert await rig.scram("one-more@example.test", "wrong") == Denied(TOO_MANY)

    asyncio.run(scenario())


def test_exchanges_that_fail_count_once(rig: Rig) -> None:
    async def scenario() -> None:
        outcomes = [
            await rig.scram(f"user{number}@example.test", "wrong")
            for number in range(MOST_OF_NETWORK + 1)
        ]
        assert outcomes.index(Denied(TOO_MANY)) == MOST_OF_NETWORK

    asyncio.run(scenario())


def test_a_connection_has_few_exchanges_without_an_end() -> None:
    with MailServer(allow_cleartext_login=True) as server:
        client = imaplib.IMAP4(server.host, server.ports["imap"], timeout=20)
        first = base64.b64encode(ScramClient("alice@example.test", "x").first())
        answers = []
        for _ in range(MOST_LOGIN_FAILURES):
            client.send(b"a AUTHENTICATE SCRAM-SHA-256 " + first + b"\r\n")
            assert client.readline().startswith(b"+ ")
            client.send(b"*\r\n")
            answers.append(client.readline())
        assert all(answer.startswith(b"a BAD") for answer in answers[:-1])
        assert b"* BYE Too many failed logins\r\n" in (answers[-1], client.readline())
        client.shutdown()


@pytest.mark.parametrize(
    "user",
    [BOB, "bob", "nobody@example.test", "nobody", "disabled@example.test", "b@b@b", "x" * 200],
)
def test_the_first_answer_to_a_name_asks_nothing_whoever_exists(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """So it takes as long for all; the very first time of a name goes by unseen."""
    disabled = rig.directory.add_account("disabled@example.test", *HASHES)
    rig.directory.set_enabled(disabled.id, enabled=False)
    asked = []
    rows, row = DirectoryFile.rows, DirectoryFile.row

    def count(ask: Any) -> Any:
        return lambda self, sql, *values: (asked.append(sql), ask(self, sql, *values))[1]

    async def scenario() -> None:
        await rig.begin(user)
        monkeypatch.setattr(DirectoryFile, "rows", count(rows))
        monkeypatch.setattr(DirectoryFile, "row", count(row))
        for _ in range(5):
            assert isinstance((await rig.begin(user))[1], Challenge)
        assert asked == []
        rig.directory.credentials.set_password(disabled.id, "", "")
        await rig.begin(user)
        assert asked, "what is remembered is void after a change"

    asyncio.run(scenario())


def test_a_name_that_several_accounts_have_shows_the_salt_of_an_address(rig: Rig) -> None:
    """As names do that nobody has."""

    async def scenario() -> None:
        domains = rig.directory.domains()
        for domain in domains:
            rig.directory.add_account(f"all@{domain}", *hash_password(Secret(RIGHT)))
        for number in range(8):
            for domain in domains[:2]:
                rig.directory.add_account(f"two{number}@{domain}", *HASHES)
        for name in ("nobody", "all", *(f"two{number}" for number in range(8))):
            salts = [await rig.salt(f"{name}@{domain}") for domain in domains]
            assert await rig.salt(name) in salts

    asyncio.run(scenario())


def test_a_name_that_several_accounts_have_lets_nobody_in(rig: Rig) -> None:
    rig.directory.add_account("bob@second.test", *HASHES)
    rig.directory.add_account("bob@third.test", *HASHES)

    async def scenario() -> None:
        assert isinstance(await rig.scram("bob", RIGHT), Denied)
        assert isinstance(await rig.scram("bob@second.test", RIGHT), Login)
        own = parse_verifier(HASHES[1])
        assert own is not None
        assert await rig.salt("bob") == own.salt

    asyncio.run(scenario())

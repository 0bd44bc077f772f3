"""What was changed while an attempt to log in waited counts: the account, its password, its app passwords."""

import asyncio
import poplib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from scram_client import ScramClient

from pillarbox.app import maintenance
from pillarbox.auth import login as login_module
from pillarbox.auth.exchange import Exchange
from pillarbox.auth.login import Authenticator
from pillarbox.auth.passwords import hash_password, make_verifier, parse_verifier, verify_password
from pillarbox.auth.peer import PROTOCOLS, Denied, Peer
from pillarbox.core.secret import Secret
from pillarbox.pop3d import session
from pillarbox.pop3d.maildrop import Maildrop, open_maildrop
from pillarbox.sasl.exchange import Challenge, Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.run import LoginFailures
from pillarbox.store.store import Store
from pillarbox.testing import MailServer

OWN, PHONE, NEW = "own password", "phone password", "new password"
PEER = Peer("192.0.2.1", "imap")
LIFE_S = 100


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0
        self.directory = Directory(folder / "directory.db", clock=lambda: self.now)
        self.directory.add_domain("example.test")
        self.bob = self.directory.add_account("bob@example.test", *hash_password(Secret(OWN)))
        self.other = Directory(folder / "directory.db", clock=lambda: self.now)
        """That of another process."""
        verifier = parse_verifier(self.directory.credentials.password(self.bob.id)[1])
        assert verifier is not None
        phone = make_verifier(Secret(PHONE), verifier.salt)
        expires = int(self.now) + LIFE_S
        self.directory.credentials.add_app_password(self.bob.id, "phone", phone, PROTOCOLS, expires)
        self.authenticator = Authenticator(
            self.directory,
            LoginFailures(folder / "run.db", clock=lambda: self.now),
            clock=lambda: self.now,
            failure_delay_s=0,
        )

    def change(self, what: str) -> None:
        if what == "disabled":
            self.other.set_enabled(self.bob.id, enabled=False)
        elif what == "removed":
            self.other.remove_account(self.bob.id)
        elif what == "new password":
            self.other.credentials.set_password(self.bob.id, *hash_password(Secret(NEW)))
        elif what == "revoked":
            self.other.credentials.revoke_app_password(self.bob.id, "phone")
        else:
            self.now += LIFE_S


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await scenario(rig)
            rig.authenticator.close()
            rig.directory.close()
            rig.other.close()

        asyncio.run(main())

    return run


CHANGES = [
    (OWN, "disabled"),
    (OWN, "removed"),
    (OWN, "new password"),
    (PHONE, "disabled"),
    (PHONE, "revoked"),
    (PHONE, "expired"),
]


@pytest.mark.parametrize(("password", "what"), CHANGES)
def test_a_password_that_waited_for_its_hash_counts_as_it_is_then(
    run, monkeypatch: pytest.MonkeyPatch, password: str, what: str
) -> None:
    gate = threading.Event()

    def verify_late(password_hash: str, said: Secret) -> bool:
        assert gate.wait(20)
        return verify_password(password_hash, said)

    monkeypatch.setattr(login_module, "verify_password", verify_late)

    async def scenario(rig: Rig) -> None:
        credentials = Credentials("", "bob@example.test", Secret(password))
        waiting = [
            asyncio.create_task(rig.authenticator.login(credentials, PEER)) for _ in range(3)
        ]
        await asyncio.sleep(0.01)
        rig.change(what)
        gate.set()
        assert {type(outcome) for outcome in await asyncio.gather(*waiting)} == {Denied}
        assert isinstance(await rig.authenticator.login(credentials, PEER), Denied)

    run(scenario)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize(("password", "what"), CHANGES)
def test_a_password_proven_by_scram_counts_as_it_is_at_the_last_step(
    run, password: str, what: str, step: int
) -> None:
    async def scenario(rig: Rig) -> None:
        client = ScramClient("bob@example.test", password)
        exchange = Exchange(rig.authenticator, "SCRAM-SHA-256", PEER)
        answer = await exchange.start(client.first())
        assert isinstance(answer, Challenge)
        if step == 1:
            rig.change(what)
        answer = await exchange.respond(client.final(answer.data))
        assert isinstance(answer, Challenge)
        if step == 2:
            rig.change(what)
        assert isinstance(await exchange.respond(b""), Denied)

    run(scenario)


def test_nobody_is_disabled_unseen_while_the_maildrop_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever looks for sessions of disabled accounts finds this one, though it is not logged in yet."""
    monkeypatch.setattr(maintenance, "DIRECTORY_EVERY_S", 0.05)
    with MailServer(allow_cleartext_login=True) as server:

        async def open_late(store: Store, account: int) -> Maildrop | None:
            maildrop = await open_maildrop(store, account)
            server._directory.set_enabled(account, enabled=False)
            await asyncio.sleep(1)  # in which it is looked for several times, and not again
            return maildrop

        monkeypatch.setattr(session, "open_maildrop", open_late)
        client = poplib.POP3(server.host, server.ports["pop3"], timeout=10)
        client.user("alice@example.test")
        client.pass_("pillarbox")
        assert client.sock.recv(1000) == b""
        client.close()

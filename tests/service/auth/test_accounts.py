"""App passwords, supporters, history and bans; and that time tells nothing about who exists."""

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from scram_client import ScramClient

from pillarbox.auth.bans import Bans
from pillarbox.auth.exchange import Exchange
from pillarbox.auth.login import Authenticator
from pillarbox.auth.outcomes import WRONG
from pillarbox.auth.passwords import hash_password, make_verifier, parse_verifier
from pillarbox.auth.peer import PROTOCOLS, Denied, Login, Peer
from pillarbox.auth.throttle import MOST_WITH_ACCOUNT
from pillarbox.core.errors import Refused
from pillarbox.core.networks import parse_networks
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Challenge, Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.logins import MOST_ROWS, OK, Attempt, Logins
from pillarbox.store.run import LoginFailures

OWN, PHONE, HELP = "own password", "phone password", "helper password"
PEER = Peer("192.0.2.1", "imap")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0
        self.directory = Directory(folder / "directory.db", clock=lambda: self.now)
        self.directory.add_domain("example.test")
        self.bob = self.directory.add_account("bob@example.test", *hash_password(Secret(OWN)))
        self.help = self.directory.add_account("help@example.test", *hash_password(Secret(HELP)))
        self.logins = Logins(folder / "logins.db", clock=lambda: self.now)
        self.authenticator = Authenticator(
            self.directory,
            LoginFailures(folder / "run.db", clock=lambda: self.now),
            self.logins,
            clock=lambda: self.now,
            failure_delay_s=0,
        )

    def add(self, name: str = "phone", scopes=PROTOCOLS, expires: int | None = None) -> None:
        verifier = parse_verifier(self.directory.credentials.password(self.bob.id)[1])
        assert verifier is not None
        scram = make_verifier(Secret(PHONE), verifier.salt)
        self.directory.credentials.add_app_password(self.bob.id, name, scram, scopes, expires)

    async def plain(
        self,
        password: str,
        user: str = "bob@example.test",
        protocol: str = "imap",
        authzid: str = "",
    ) -> Login | Denied:
        credentials = Credentials(authzid, user, Secret(password))
        return await self.authenticator.login(credentials, Peer("192.0.2.1", protocol), "PLAIN")

    async def scram(
        self,
        password: str,
        user: str = "bob@example.test",
        protocol: str = "imap",
        authzid: str = "",
    ) -> Login | Denied:
        client = ScramClient(user, password, authzid=authzid)
        exchange = Exchange(self.authenticator, "SCRAM-SHA-256", Peer("192.0.2.1", protocol))
        step = await exchange.start(client.first())
        assert isinstance(step, Challenge)
        step = await exchange.respond(client.final(step.data))
        if isinstance(step, Challenge):
            client.check(step.data)
            step = await exchange.respond(b"")
        assert not isinstance(step, Challenge)
        return step

    def history(self, account: int) -> list[tuple[str, str, str]]:
        self.logins.flush()
        return [(row.mechanism, row.result, row.with_what) for row in self.logins.history(account)]


@pytest.fixture
def run(tmp_path: Path):
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            rig = Rig(tmp_path)
            await scenario(rig)
            rig.authenticator.close()
            rig.logins.close()

        asyncio.run(main())

    return run


def test_an_app_password_works_beside_the_own_one_by_all_mechanisms(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add()
        for login in (rig.plain, rig.scram):
            for password in (OWN, PHONE, PHONE):
                assert isinstance(await login(password), Login)
            assert isinstance(await login("wrong password"), Denied)
        assert ("SCRAM-SHA-256", OK, "phone") in rig.history(rig.bob.id)
        assert ("PLAIN", OK, "phone") in rig.history(rig.bob.id)
        assert ("PLAIN", "wrong password", "") in rig.history(rig.bob.id)

    run(scenario)


def test_a_new_own_password_keeps_app_passwords_by_keeping_the_salt(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add()
        salt = parse_verifier(rig.directory.credentials.password(rig.bob.id)[1]).salt  # type: ignore[union-attr]
        rig.directory.credentials.set_password(
            rig.bob.id, *hash_password(Secret("changed one"), salt=salt)
        )
        for login in (rig.plain, rig.scram):
            assert isinstance(await login(PHONE), Login)
            assert isinstance(await login("changed one"), Login)
            assert isinstance(await login(OWN), Denied)

    run(scenario)


def test_an_app_password_counts_only_where_it_shall(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add(scopes=["smtp"])
        for login in (rig.plain, rig.scram):
            assert isinstance(await login(PHONE, protocol="smtp"), Login)
            assert isinstance(await login(PHONE, protocol="imap"), Denied)
            assert isinstance(await login(PHONE, protocol="smtp"), Login)

    run(scenario)


def test_log_history_and_trace_tell_a_void_app_password_from_a_wrong_one(run, caplog) -> None:
    caplog.set_level("INFO")

    async def scenario(rig: Rig) -> None:
        rig.add(scopes=["smtp", "pop3"], expires=int(rig.now) + 100)
        wrong = await rig.plain("guess")
        for login, mechanism in ((rig.plain, "PLAIN"), (rig.scram, "SCRAM-SHA-256")):
            # The wire tells them apart by nothing.
            assert await login(PHONE) == wrong
            assert (mechanism, "app password is not for imap", "phone") in rig.history(rig.bob.id)
        assert "reason=app password is not for imap: phone" in caplog.text
        assert isinstance(await rig.plain(PHONE, protocol="smtp"), Login)
        rig.now += 100
        for login, mechanism in ((rig.plain, "PLAIN"), (rig.scram, "SCRAM-SHA-256")):
            assert await login(PHONE, protocol="smtp") == wrong
            assert (mechanism, "app password has expired", "phone") in rig.history(rig.bob.id)
        assert "protocol=smtp reason=app password has expired: phone" in caplog.text
        # Of accounts that are disabled nothing is told, and a guess is one.
        rig.directory.set_enabled(rig.bob.id, enabled=False)
        caplog.clear()
        assert await rig.plain(PHONE) == wrong
        assert await rig.scram("guess") == wrong
        assert "app password" not in caplog.text

    run(scenario)


def test_a_void_app_password_is_known_where_an_account_has_no_other_one(run, caplog) -> None:
    caplog.set_level("INFO")

    async def scenario(rig: Rig) -> None:
        rig.add(expires=int(rig.now) + 100)
        rig.directory.credentials.set_password(rig.bob.id, "", "")
        assert isinstance(await rig.plain(PHONE), Login)
        assert isinstance(await rig.scram(PHONE), Login)
        rig.now += 100
        assert isinstance(await rig.plain(PHONE), Denied)
        assert isinstance(await rig.scram(PHONE), Denied)
        assert caplog.text.count("reason=app password has expired: phone") == 2

    run(scenario)


@pytest.mark.parametrize("how", ["expired", "revoked", "disabled"])
def test_an_app_password_ends_at_once(run, how: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add(expires=int(rig.now) + 100)
        assert isinstance(await rig.plain(PHONE), Login)
        if how == "expired":
            rig.now += 100
        elif how == "revoked":
            rig.directory.credentials.revoke_app_password(rig.bob.id, "phone")
        else:
            rig.directory.set_enabled(rig.bob.id, enabled=False)
        for login in (rig.plain, rig.scram):
            assert isinstance(await login(PHONE), Denied)

    run(scenario)


@pytest.mark.parametrize("mechanism", ["plain", "scram"])
def test_a_device_with_a_void_app_password_locks_nobody_out(run, mechanism: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add(expires=int(rig.now) + 100)
        rig.now += 100
        login = getattr(rig, mechanism)
        for _ in range(3 * MOST_WITH_ACCOUNT):
            assert await login(PHONE) == Denied(WRONG)
        assert isinstance(await login(OWN), Login)

    run(scenario)


def test_names_of_app_passwords_are_checked(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.add("phone")
        for bad in ("phone", "", "x" * 65, "a\nb"):
            with pytest.raises(Refused):
                rig.add(bad)
        with pytest.raises(Refused):
            rig.directory.credentials.revoke_app_password(rig.bob.id, "tablet")

    run(scenario)


def test_only_supporters_act_for_others_and_it_is_recorded(run, caplog) -> None:
    caplog.set_level(logging.INFO, "pillarbox.auth")

    async def scenario(rig: Rig) -> None:
        attempts = (
            lambda: rig.plain(HELP, "bob@example.test*help@example.test"),
            lambda: rig.plain(HELP, "help@example.test", authzid="bob@example.test"),
            lambda: rig.scram(HELP, "bob@example.test*help@example.test"),
            lambda: rig.scram(HELP, "help@example.test", authzid="bob@example.test"),
        )
        for attempt in attempts:
            assert isinstance(await attempt(), Denied)
        rig.directory.credentials.set_supporter(rig.help.id, allowed=True)
        for attempt in attempts:
            login = await attempt()
            assert isinstance(login, Login)
            assert login.supporter is not None
            assert (login.account.id, login.supporter.id) == (rig.bob.id, rig.help.id)
        assert ("PLAIN", OK, "help@example.test") in rig.history(rig.bob.id)
        assert caplog.text.count("login ok: user=bob@example.test client=192.0.2.1 ") == 4
        assert "support: help@example.test is logged in as user=bob@example.test" in caplog.text
        # Neither the other password, nor to somebody who is not there or disabled
        assert isinstance(await rig.plain(OWN, "bob@example.test*help@example.test"), Denied)
        assert isinstance(await rig.plain(HELP, "nobody@example.test*help@example.test"), Denied)
        rig.directory.set_enabled(rig.bob.id, enabled=False)
        assert isinstance(await rig.plain(HELP, "bob@example.test*help@example.test"), Denied)

    run(scenario)


@pytest.mark.parametrize("way", ["plain", "scram"])
def test_a_name_of_several_accounts_is_told_as_that_and_answered_like_any_other(
    run, caplog, way: str
) -> None:
    caplog.set_level(logging.INFO, "pillarbox.auth")

    async def scenario(rig: Rig) -> None:
        login = getattr(rig, way)
        assert isinstance(await login(OWN, "bob"), Login)
        rig.directory.add_domain("other.example")
        rig.directory.add_account("bob@other.example", *hash_password(Secret("another one")))
        caplog.clear()
        denied = [await login(OWN, "bob"), await login(OWN, "nobody")]
        assert denied == [Denied(WRONG), Denied(WRONG)]
        several, unknown = (record.getMessage() for record in caplog.records)
        assert "login failed: user=bob client=192.0.2.1 " in several
        assert several.endswith(" reason=several accounts have this name before the @")
        assert "user=nobody@" in unknown
        assert unknown.endswith(" reason=no such account")

    run(scenario)


def test_history_is_bounded_and_failures_do_not_push_out_successes(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.plain(OWN)
        for number in range(3 * MOST_ROWS):
            client = f"198.51.100.{number}"
            rig.logins.note(Attempt(rig.bob.id, client, "imap", "PLAIN", "wrong", "", client))
        history = rig.history(rig.bob.id)
        assert len(history) == MOST_ROWS // 2 + 1
        assert ("PLAIN", OK, "") in history
        assert rig.logins.knows(rig.bob.id, "192.0.2.1")
        assert not rig.logins.knows(rig.bob.id, "198.51.100.1")

    run(scenario)


def test_bans_have_networks_ends_and_exceptions(run) -> None:
    async def scenario(rig: Rig) -> None:
        exempt = parse_networks(["198.51.100.7"])
        bans = Bans(rig.directory, exempt, lambda: rig.now)
        assert "198.51.100.1" not in bans
        rig.directory.bans.add("198.51.100.0/24", int(rig.now) + 60, "")
        rig.directory.bans.add("2001:db8::/32", None, "")
        assert "198.51.100.1" in bans
        assert "::ffff:198.51.100.1" in bans
        assert "2001:db8:1::5" in bans
        assert "2001:db9::1" not in bans
        assert "198.51.100.7" not in bans
        rig.now += 60
        assert "198.51.100.1" not in bans
        rig.directory.bans.remove("2001:db8::/32")
        assert "2001:db8:1::5" not in bans

    run(scenario)


def test_time_does_not_tell_who_exists(run) -> None:
    """Medians of interleaved attempts, each with a new wrong password; a hash takes about 50 ms."""

    async def scenario(rig: Rig) -> None:
        rig.add()
        users = ("bob@example.test", "nobody@example.test", "bob@elsewhere.test")
        spans: dict[str, list[float]] = {user: [] for user in users}
        for number in range(15):
            for user in users:
                # Each from a network of its own: refusals would be quick.
                peer = Peer(f"10.{number}.{users.index(user)}.1", "imap")
                credentials = Credentials("", user, Secret(f"wrong {number}"))
                begin = time.perf_counter()
                assert isinstance(await rig.authenticator.login(credentials, peer), Denied)
                spans[user].append(time.perf_counter() - begin)
        medians = {user: statistics.median(each) for user, each in spans.items()}
        typical = statistics.median(medians.values())
        noise = max(statistics.pstdev(each) for each in spans.values())
        for user, median in medians.items():
            assert abs(median - typical) < max(0.1 * typical, noise), (user, medians)

    run(scenario)


def test_a_server_that_ends_writes_no_history_of_a_removed_account(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "directory.db", clock=lambda: 0)
    directory.add_domain("example.test")
    ids = [directory.add_account(f"{name}@example.test", "", "").id for name in ("bob", "help")]
    path = tmp_path / "logins.db"
    logins = Logins(path, clock=lambda: 0, has_account=directory.has_account)
    for account in ids:
        logins.note(Attempt(account, "192.0.2.1", "imap", "PLAIN", OK, "", "192.0.2.1"))
    directory.remove_account(ids[0])
    logins.close()
    logins = Logins(path, clock=lambda: 0)
    assert [len(logins.history(account)) for account in ids] == [0, 1]
    logins.close()
    directory.close()

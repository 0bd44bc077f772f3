"""pillarbox throttle: what it shows, whom it lets try again, and what it refuses."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.commands import Run, runner

from pillarbox.app.figures import Status
from pillarbox.app.shared import shared_alone
from pillarbox.app.status import StatusSocket
from pillarbox.auth.throttle import MOST_OF_NETWORK, MOST_WITH_ACCOUNT, Claim, Throttle
from pillarbox.store.directory import Directory
from pillarbox.store.run import LoginFailures

ALICE, HOME = "alice@example.org", "192.0.2.1"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    Path("data").mkdir()
    directory = Directory(tmp_path / "data" / "directory.db", clock=time.time)
    directory.add_domain("example.org")
    directory.add_account(ALICE, "", "")
    directory.close()

    return runner(monkeypatch, capsys)


@pytest.fixture
def throttle(tmp_path: Path, run: Run) -> Iterator[Throttle]:
    """Of a server that runs, as far as commands see."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def answer() -> None:
        status = StatusSocket(tmp_path / "data", Status(shared_alone(), "1"), lambda: None)
        await status.start()
        ready.set()
        await over.wait()
        status.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(answer(),))
    thread.start()
    assert ready.wait(5)
    failures = LoginFailures(tmp_path / "data" / "run.db", clock=time.time)
    yield Throttle(failures, lambda _account, _network: False)
    failures.close()
    loop.call_soon_threadsafe(over.set)
    thread.join(5)
    loop.close()


def fail(throttle: Throttle, count: int, name: str, address: str = HOME) -> None:
    for number in range(count):
        throttle.failed(Claim(name, 1, address), b"%d" % number)


def test_who_is_refused_is_listed_and_forgiven(run: Run, throttle: Throttle) -> None:
    assert run("throttle", "list", "--json") == (0, "[]\n", "")
    fail(throttle, MOST_WITH_ACCOUNT, ALICE)
    (row,) = json.loads(run("throttle", "list", "--json")[1])
    assert 0 < row["until"] - time.time() < 86_400
    assert "Z  every attempt" in run("throttle", "list")[1]
    assert (row["account"], row["network"], row["refused"]) == (ALICE, HOME, "every attempt")
    assert row["failures"] == MOST_WITH_ACCOUNT
    forgiven = (0, f"The failed logins of {ALICE} are forgiven.\n", "")
    assert run("throttle", "forgive", "Alice") == forgiven  # as a client may say it, too
    assert not throttle.refuses(Claim(ALICE, 1, HOME))
    none = (1, "", f"pillarbox: no failed logins of {ALICE} are counted\n")
    assert run("throttle", "forgive", ALICE) == none


def test_a_network_that_stays_refused_is_noted(run: Run, throttle: Throttle) -> None:
    fail(throttle, MOST_WITH_ACCOUNT, ALICE)
    for number in range(MOST_OF_NETWORK - MOST_WITH_ACCOUNT):
        fail(throttle, 1, f"user{number}@example.org")
    out = run("throttle", "forgive", ALICE)[1]
    assert f"Note: {HOME} had {MOST_OF_NETWORK} failures with any account" in out
    assert throttle.refuses(Claim(ALICE, 1, HOME))
    forgiven = (0, f"The failed logins from {HOME}/32 are forgiven.\n", "")
    assert run("throttle", "forgive", HOME) == forgiven
    assert not throttle.refuses(Claim(ALICE, 1, HOME))
    assert run("throttle", "forgive", HOME)[0] == 1


def test_a_name_without_an_account_can_be_forgiven(run: Run, throttle: Throttle) -> None:
    """With an LDAP directory, say, the account is made at the first login that works."""
    fail(throttle, MOST_WITH_ACCOUNT, "dora@example.org")
    assert json.loads(run("throttle", "list", "--json")[1])[0]["account"] == "?"
    assert run("throttle", "forgive", "dora@example.org")[0] == 0
    assert not throttle.refuses(Claim("dora@example.org", 0, HOME))


def test_what_is_neither_account_nor_network_is_wrong_usage(run: Run, throttle: Throttle) -> None:
    code, _, err = run("throttle", "forgive", "mallory")
    assert (code, '"mallory" is no address of an account' in err) == (2, True)


def test_without_a_server_there_is_nothing_to_forgive(run: Run, tmp_path: Path) -> None:
    for command in (("list",), ("forgive", ALICE)):
        code, out, err = run("throttle", *command)
        assert (code, out) == (1, "")
        assert err.startswith("pillarbox: no server runs on ")
    assert not (tmp_path / "data" / "run.db").exists()

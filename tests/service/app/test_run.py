"""What ends a server besides signals."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from pillarbox.app.life import FATAL, warn
from pillarbox.app.run import run
from pillarbox.app.server import Server
from pillarbox.config.schema import Config, Listen
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.directory import Directory
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.store import Store


def test_a_disk_that_fails_to_sync_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be promised any more: the next start recovers what was."""
    config = Config("mail.example.test", str(tmp_path), listen=Listen(pop3=["127.0.0.1:0"]))
    tasks = []

    def fail(*_: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(OSError(5, "Input/output error"))
        return future

    async def append(store: Store) -> None:
        item = Append(INBOX, make_content(b"Subject: x\r\n\r\n"), 0)
        await store.append(1, item)
        monkeypatch.setattr("pillarbox.store.syncing.Syncs.sync", fail)
        await store.append(1, item)

    def announce(server: Server) -> None:
        assert server.store is not None
        tasks.append(asyncio.get_running_loop().create_task(append(server.store)))

    assert run(config, announce) == FATAL
    assert isinstance(tasks[0].exception(), Unavailable), "its caller must not wait for ever"


def test_a_server_that_cannot_start_leaves_nothing_open(tmp_path: Path) -> None:
    bad = Config(
        "mail.example.test",
        str(tmp_path),
        listen=Listen(imap=["127.0.0.1:0"], pop3=["192.0.2.1:0"]),
    )
    with pytest.raises(Refused, match="does not have that address"):
        run(bad, lambda server: None)
    good = Config("mail.example.test", str(tmp_path), listen=Listen(imap=["127.0.0.1:0"]))

    def announce(server: Server) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(good, announce) == 0


@pytest.mark.parametrize(("mode", "is_told"), [(0o700, False), (0o777, True), (0o750, True)])
def test_a_data_folder_that_others_may_look_into_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, is_told: bool
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    warn(Config("mail.example.test", str(folder), listen=Listen(pop3=["127.0.0.1:0"])), None)
    told = f"may look into {folder} ({mode:04o}); run: chmod 700 {folder}" in caplog.text
    assert told == is_told


@pytest.mark.parametrize("has_domain", [False, True])
def test_a_server_without_a_domain_says_so_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_domain: bool
) -> None:
    """Mostly its disk is not mounted."""
    if has_domain:
        directory = Directory(tmp_path / "directory.db", clock=lambda: 1)
        directory.add_domain("example.test")
        directory.close()
    config = Config("mail.example.test", str(tmp_path), listen=Listen(imap=["127.0.0.1:0"]))
    assert run(config, lambda server: os.kill(os.getpid(), signal.SIGTERM)) == 0
    told = (
        f"there is no domain in {tmp_path}, so logins are put off, and mail (451) that no smarthost or"
        in caplog.text
    )
    assert told != has_domain

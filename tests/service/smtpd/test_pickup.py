"""Mail of local programs, taken up from the drop folder."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.core.errors import DiskFull, Refused, Unavailable
from pillarbox.smtpd import acceptance as acceptance_module
from pillarbox.smtpd import pickup as pickup_module
from pillarbox.smtpd.pickup import Pickup
from pillarbox.store import drop
from pillarbox.store.drop import Dropped
from pillarbox.store.outgoing_row import Selection

TEXT = b"Subject: a note\r\n\r\nhello\r\n"
Take = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "drop"
    drop.make_folder(made, shared=True)
    return made


@pytest.fixture
def take(server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """`take(user, trusted)`: everything is taken up, as if that user had left it."""
    monkeypatch.setattr(pickup_module, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(pickup_module, "AGAIN_S", 0.01)

    def take(user: str = "alice", *, trusted: bool = False) -> None:
        async def run() -> None:
            pickup = Pickup(server.context, folder)
            caller = pickup_module._Caller(user, f"{user}@example.test", trusted)
            monkeypatch.setattr(pickup, "_caller", lambda _user_id, _user: caller)
            pickup.start()
            async with asyncio.timeout(10):
                while drop.waiting(folder):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await pickup.stop()

        server.call(run)

    return take


def test_recipients_here_and_elsewhere_get_it_with_what_was_missing(server, folder, take) -> None:
    envelope = Dropped(["bob", "carol@example.test", "x@far.example"], name="Alice, at work")
    drop.leave(folder, envelope, b"Subject: hi\r\nBcc: secret@far.example\r\n\r\ntext\r\n")
    take()
    for name in ("bob", "carol"):
        (mail,) = server.inbox(name)
        assert mail.startswith(b"Return-Path: <alice@example.test>\r\n")
        assert b'From: "Alice, at work" <alice@example.test>\r\n' in mail
        assert b"\r\nDate: " in mail
        assert b"\r\nMessage-ID: " in mail
        assert b"Bcc" not in mail
        assert b"(Pillarbox, from user alice)" in mail
    (row,) = server.queue.selected.rows(Selection())
    assert (row.reverse_path, row.recipient) == ("alice@example.test", "x@far.example")
    assert row.queue_id.encode() in mail


def test_without_a_domain_what_was_left_waits(
    server, folder, take, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((False, False))
    monkeypatch.setattr(server.store.directory, "has_domains", lambda: next(answers, True))
    drop.leave(folder, Dropped(["x@far.example"]), TEXT)
    take()
    assert list(answers) == []
    assert len(server.queue.selected.rows(Selection())) == 1


def test_line_ends_of_large_mail_are_mended_off_the_event_loop(
    server, folder, take, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    mended = pickup_module._mended

    def note(message: bytes) -> bytes:
        threads.append(threading.current_thread().name)
        return mended(message)

    monkeypatch.setattr(pickup_module, "_mended", note)
    drop.leave(folder, Dropped(["bob"]), b"Subject: hi\n\n" + b"text\n" * 20_000)
    take()
    assert threads == ["compute_0"]
    (mail,) = server.inbox("bob")
    assert mail.endswith(b"\r\ntext\r\ntext\r\n")


def test_a_user_sends_as_nobody_else(server, folder, take) -> None:
    drop.leave(folder, Dropped(["bob"], sender="boss@example.test"), TEXT)
    take()
    (mail,) = server.inbox("bob")
    assert mail.startswith(b"Return-Path: <alice@example.test>\r\n")


def test_a_forged_author_comes_back(server, folder, take) -> None:
    drop.leave(folder, Dropped(["bob"]), b"From: boss@example.test\r\n" + TEXT)
    take()
    assert server.inbox("bob") == []
    (bounce,) = server.inbox("alice")
    assert bounce.startswith(b"Return-Path: <>\r\n")
    assert b"550 5.7.1 Not your sender address" in bounce


def test_an_author_that_leads_to_the_account_of_the_user_is_allowed(server, folder, take) -> None:
    server.store.directory.add_alias("sales@example.test", "alice@example.test")
    drop.leave(folder, Dropped(["bob"]), b"From: Sales@example.test\r\n" + TEXT)
    take()
    assert len(server.inbox("bob")) == 1


def test_a_trusted_user_sends_as_anybody_also_with_the_null_path(server, folder, take) -> None:
    boss = b"From: boss@big.example\r\n" + TEXT
    drop.leave(folder, Dropped(["bob"], sender="boss@big.example"), boss)
    drop.leave(folder, Dropped(["bob"], sender=""), boss)
    take("daemon", trusted=True)
    assert [mail.partition(b"\r\n")[0] for mail in server.inbox("bob")] == [
        b"Return-Path: <boss@big.example>",
        b"Return-Path: <>",
    ]


def test_recipients_that_do_not_exist_come_back_and_the_others_get_it(server, folder, take) -> None:
    drop.leave(folder, Dropped(["bob", "nobody", "x@-bad-.example"]), TEXT)
    take()
    assert len(server.inbox("bob")) == 1
    (bounce,) = server.inbox("alice")
    assert b"550 5.1.1 No such mailbox here" in bounce
    assert bounce.count(b"Final-Recipient: ") == 2


def test_notify_never_is_kept(server, folder, take) -> None:
    drop.leave(folder, Dropped(["nobody", "x@far.example"], notify="NEVER"), TEXT)
    take()
    assert server.inbox("alice") == []
    (row,) = server.queue.selected.rows(Selection())
    assert row.notify == "NEVER"


def test_what_cannot_be_stored_now_waits_and_holds_up_nobody(
    server, folder, take, monkeypatch
) -> None:
    drop.leave(folder, Dropped(["bob"]), b"Subject: first\r\n\r\n")
    drop.leave(folder, Dropped(["carol"]), b"Subject: second\r\n\r\n")
    original = pickup_module.make_durable
    order: list[str] = []

    async def fail_once(context, accepted):
        order.append(accepted.transaction.recipients[0])
        if len(order) == 1:
            raise Unavailable("not now")
        return await original(context, accepted)

    monkeypatch.setattr(pickup_module, "make_durable", fail_once)
    take()
    assert order == ["bob@example.test", "carol@example.test", "bob@example.test"]
    assert len(server.inbox("bob")) == len(server.inbox("carol")) == 1


def test_a_stop_before_the_file_goes_stores_nothing_twice(
    server, folder, take, monkeypatch
) -> None:
    drop.leave(folder, Dropped(["bob", "x@far.example"]), TEXT)
    original = drop.done
    attempts: list[str] = []

    def fail_once(where: Path, name: str) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            raise OSError("as if it had been killed here")
        original(where, name)

    monkeypatch.setattr(drop, "done", fail_once)
    take()
    assert len(attempts) == 2
    assert len(server.inbox("bob")) == 1
    assert len(server.queue.selected.rows(Selection())) == 1


@pytest.mark.parametrize(
    "kind",
    [
        *("text", "link", "hard link", "pipe", "name", "large", "nobody", "folder", "long name"),
        *("ENVID", "RET", "NOTIFY", "full name", "recipient"),
    ],
)
def test_what_nobody_could_have_left_is_set_aside(server, folder, take, kind: str) -> None:
    other = folder.parent / "other"
    other.write_bytes(b'{"recipients":["bob"]}\n' + TEXT)
    path = folder / "00000000000000000001-00000001.mail"
    match kind:
        case "text":
            path.write_bytes(b"just text")
        case "link":
            path.symlink_to(other)
        case "hard link":
            path.hardlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case "name":
            path = folder / "note.mail"
            path.write_bytes(other.read_bytes())
        case "large":
            path.write_bytes(
                b'{"recipients":["bob"]}\n' + b"x" * (server.context.max_message_size + 1)
            )
        case "folder":
            path.mkdir()
        case "long name":
            path = folder / (str(1) * 20 + "-1" + "x" * 200 + ".mail")
            path.write_bytes(other.read_bytes())
        case "ENVID":
            path.write_bytes(b'{"recipients":["bob"],"envid":"x AUTH=<>"}\n' + TEXT)
        case "RET":
            path.write_bytes(b'{"recipients":["bob"],"ret":"FULL BODY=8BITMIME"}\n' + TEXT)
        case "NOTIFY":
            path.write_bytes(b'{"recipients":["bob"],"notify":"NEVER ORCPT=x"}\n' + TEXT)
        case "full name":
            path.write_bytes(b'{"recipients":["bob"],"name":"a\\r\\nBcc: x"}\n' + TEXT)
        case "recipient":
            path.write_bytes(b'{"recipients":["bob","a\\nb@c.example"]}\n' + TEXT)
        case "nobody":
            path.write_bytes(b'{"recipients":[]}\n' + TEXT)
    take()
    assert server.inbox("bob") == []
    (kept,) = folder.iterdir()
    assert kept.name.startswith(drop.SET_ASIDE + path.name[:20])


def test_the_folder_lets_others_add_but_not_see(folder: Path) -> None:
    assert folder.stat().st_mode & 0o7777 == 0o3733
    drop.leave(folder, Dropped(["bob"]), TEXT)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_message_that_cannot_be_left_leaves_nothing(folder: Path, monkeypatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        drop.leave(folder, Dropped(["bob"]), TEXT)
    assert list(folder.iterdir()) == []


def test_folders_leak_no_descriptors(folder: Path) -> None:
    (folder / "1-1.mail").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(Refused):
            drop.read(folder, "1-1.mail", 1000)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_passing_error_sets_nothing_aside(server, folder, take, monkeypatch) -> None:
    drop.leave(folder, Dropped(["bob"]), TEXT)
    original = os.open
    attempts: list[str] = []

    def open_later(path, *arguments, **more):
        if str(path).endswith(".mail"):
            attempts.append(str(path))
            if len(attempts) < 3:
                raise OSError(errno.EMFILE, "Too many open files")
        return original(path, *arguments, **more)

    monkeypatch.setattr(os, "open", open_later)
    take()
    assert len(server.inbox("bob")) == 1


def test_what_was_sent_before_the_file_went_is_not_sent_again(
    server, folder, take, monkeypatch
) -> None:
    drop.leave(folder, Dropped(["x@far.example"]), TEXT)
    original = drop.done
    attempts: list[str] = []

    def sent_and_killed(where: Path, name: str) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            server.queue.selected.remove(Selection())  # as if it had been delivered
            raise OSError("as if it had been killed here")
        original(where, name)

    monkeypatch.setattr(drop, "done", sent_and_killed)
    take()
    assert len(attempts) == 2
    assert server.queue.selected.rows(Selection()) == []
    server.call(server.queue.drain)
    assert not server.queue._read("SELECT * FROM taken_up")


def test_a_bounce_that_cannot_be_written_is_written_later(
    server, folder, take, monkeypatch
) -> None:
    drop.leave(folder, Dropped(["nobody", "bob"]), TEXT)
    original = server.notices.tell
    attempts: list[int] = []

    async def tell(self, about, told):
        attempts.append(1)
        if len(attempts) == 1:
            raise DiskFull
        await original(about, told)

    monkeypatch.setattr(type(server.notices), "tell", tell)
    take()
    assert len(server.inbox("alice")) == len(server.inbox("bob")) == 1


def test_a_bare_cr_hides_no_author(server, folder, take) -> None:
    drop.leave(folder, Dropped(["bob"]), b"X-A: b\rFrom: boss@example.test\r\n" + TEXT)
    take()
    assert server.inbox("bob") == []
    assert len(server.inbox("alice")) == 1


def test_the_bounce_of_a_user_without_an_account_goes_to_postmaster(server, folder, take) -> None:
    drop.leave(folder, Dropped(["nobody"]), TEXT)
    take("daemon")
    assert len(server.inbox("alice")) == 1  # the oldest account


def test_other_hosts_are_not_forgotten_when_the_copies_here_cannot_be_stored_at_once(
    server, folder, take, monkeypatch
) -> None:
    drop.leave(folder, Dropped(["bob", "x@far.example"]), TEXT)
    original = acceptance_module.deliver
    attempts: list[int] = []

    async def fail_once(store, delivery):
        attempts.append(1)
        if len(attempts) == 1:
            raise Unavailable("not now")
        return await original(store, delivery)

    monkeypatch.setattr(acceptance_module, "deliver", fail_once)
    take()
    assert len(attempts) == 2
    assert len(server.inbox("bob")) == 1
    (row,) = server.queue.selected.rows(Selection())
    assert (row.recipient, row.held) == ("x@far.example", 0)

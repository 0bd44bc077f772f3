"""Several workers that look like one server: whichever a client reaches, it finds the same mail, locks and limits."""

import asyncio
import os
import poplib
import re
import resource
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Imap, Smtp
from serverprocess import DOMAIN, PASSWORD, ServerProcess, lives

from pillarbox.app.status import ask
from pillarbox.core.errors import Refused
from pillarbox.store.check import check_store

MESSAGE = b"Subject: hello\r\n\r\ntext\r\n"
ANN = f"user0@{DOMAIN}"
BEN = f"user1@{DOMAIN}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """For tests that leave it as it was."""
    server = ServerProcess(tmp_path_factory.mktemp("workers"), 4, workers=2)
    server.start()
    server.wait_for_workers()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in (server.folder / "out").read_text()
    assert list(check_store(server.folder / "data")) == []


def connections(server: ServerProcess, service: str) -> list[int]:
    """Of each worker; they tell it once a second."""
    return [worker["connections"][service] for worker in server.status()["workers"]]


def test_idle_in_one_worker_sees_at_once_what_came_through_another(shared: ServerProcess) -> None:
    """RFC 2177: within milliseconds, not at the next look of 30 s."""

    async def scenario() -> None:
        idle = [await Imap.connect(shared.imap, 0) for _ in range(12)]
        for imap in idle:
            await imap.command("SELECT INBOX")
            imap.writer.write(b"i IDLE\r\n")
            assert (await imap.reader.readline()).startswith(b"+")
        senders = [await Smtp.connect(shared.smtp) for _ in range(8)]
        await asyncio.sleep(1.2)
        assert all(connections(shared, "imap")), "12 connections reach both but once in 2,000"
        assert all(connections(shared, "smtp")), "8 connections reach both but once in 128"
        slowest = 0.0
        for count, smtp in enumerate(senders, 1):
            assert (await smtp.send([ANN], MESSAGE)).startswith("250")
            begin = time.monotonic()
            for imap in idle:
                while b"* %d EXISTS" % count not in await asyncio.wait_for(
                    imap.reader.readline(), 5
                ):
                    pass
            slowest = max(slowest, time.monotonic() - begin)
        assert slowest < 1.0, "a busy machine; alone it is some milliseconds"
        for one in (*idle, *senders):
            one.close()

    asyncio.run(scenario())


def test_notify_in_one_worker_tells_at_once_what_came_through_another(
    shared: ServerProcess,
) -> None:
    """RFC 5465: mail, names, subscriptions and annotations, not at the next look of 30 s."""

    async def scenario() -> None:
        watching = [await Imap.connect(shared.imap, 0) for _ in range(12)]
        events = "MessageNew MessageExpunge MailboxName SubscriptionChange"
        for imap in watching:
            await imap.command(f"NOTIFY SET (personal ({events} ServerMetadataChange))")
        senders = [await Smtp.connect(shared.smtp) for _ in range(8)]
        acting = await Imap.connect(shared.imap, 0)
        await asyncio.sleep(1.2)
        assert all(connections(shared, "imap")), "12 connections reach both but once in 2,000"

        async def all_hear(word: bytes) -> None:
            for imap in watching:
                while word not in await asyncio.wait_for(imap.reader.readline(), 5):
                    pass

        for smtp in senders:
            assert (await smtp.send([ANN], MESSAGE)).startswith("250")
            await all_hear(b"* STATUS INBOX (UIDNEXT ")
        await acting.command("CREATE told")
        await all_hear(b'" told')
        await acting.command("SUBSCRIBE told")
        await all_hear(b"\\Subscribed")
        await acting.command('SETMETADATA "" (/private/comment "x")')
        await all_hear(b'* METADATA "" /private/comment')
        for one in (*watching, *senders, acting):
            one.close()

    asyncio.run(scenario())


def test_mail_that_has_its_250_is_there_for_whoever_looks_whichever_worker_it_is(
    shared: ServerProcess,
) -> None:
    """Though it is put into the account's file a little later, with others."""

    async def scenario() -> None:
        senders = [await Smtp.connect(shared.smtp) for _ in range(8)]
        readers = [await Imap.connect(shared.imap, 3) for _ in range(8)]
        for count in range(1, 60):
            reply = await senders[count % 7].send([f"user3@{DOMAIN}"], MESSAGE)
            assert reply.startswith("250")
            answer = (await readers[count % 8].command("STATUS INBOX (MESSAGES)"))[0]
            assert b"MESSAGES %d)" % count in answer
        for one in (*senders, *readers):
            one.close()

    asyncio.run(scenario())


def test_a_maildrop_is_for_one_session_at_a_time_in_all_workers(shared: ServerProcess) -> None:
    """RFC 1939 §4: whichever worker it is that a second session reaches."""
    first = poplib.POP3("127.0.0.1", shared.pop3, timeout=10)
    first.user(BEN)
    first.pass_(PASSWORD)
    for _ in range(8):
        other = poplib.POP3("127.0.0.1", shared.pop3, timeout=10)
        other.user(BEN)
        with pytest.raises(poplib.error_proto, match="IN-USE"):
            other.pass_(PASSWORD)
        other.close()
    first.quit()
    other = poplib.POP3("127.0.0.1", shared.pop3, timeout=10)
    other.user(BEN)
    other.pass_(PASSWORD)
    other.quit()


def test_flags_and_expunges_of_one_worker_are_seen_in_another(shared: ServerProcess) -> None:
    async def scenario() -> None:
        sessions = [await Imap.connect(shared.imap, 2) for _ in range(8)]
        await sessions[0].command("APPEND INBOX", MESSAGE)
        for imap in sessions:
            await imap.command("SELECT INBOX")
        for number, imap in enumerate(sessions):
            await imap.command(f"STORE 1 +FLAGS (word{number})")
            for other in sessions:
                answers = b" ".join(await other.command("FETCH 1 FLAGS"))
                assert b"word%d" % number in answers
        await sessions[0].command("STORE 1 +FLAGS (\\Deleted)")
        await sessions[0].command("EXPUNGE")
        for other in sessions[1:]:
            assert b"* 1 EXPUNGE" in b"\r\n".join(await other.command("NOOP"))
        for imap in sessions:
            imap.close()

    asyncio.run(scenario())


def test_failed_logins_are_forgiven_in_all_workers(shared: ServerProcess) -> None:
    """Those of an address of loopback that no other test has, nor its account."""
    client, cem = "127.0.0.9", f"user3@{DOMAIN}"

    def throttle(*arguments: str) -> str:
        config = str(shared.folder / "pillarbox.toml")
        command = [sys.executable, "-m", "pillarbox", "--config", config, "throttle", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def log_in(password: str) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", shared.imap), 5, source_address=(client, 0))
        sock.settimeout(20)
        sock.sendall(f"a LOGIN {cem} {password}\r\n".encode())
        return sock

    def answer(sock: socket.socket) -> bytes:
        with sock, sock.makefile("rb") as lines:
            return next(line for line in lines if line.startswith(b"a "))

    wrong = [log_in(f"wrong{number}") for number in range(24)]  # their answers come late
    end = time.monotonic() + 20
    while cem not in (listed := throttle("list")):
        assert time.monotonic() < end, listed
    for sock in wrong:
        sock.close()
    refused = [answer(sock) for sock in [log_in(PASSWORD) for _ in range(4)]]
    assert all(b"too many failed logins" in one.lower() for one in refused), refused
    assert cem in throttle("forgive", cem)
    assert cem not in throttle("list")
    let_in = [answer(sock) for sock in [log_in(PASSWORD) for _ in range(8)]]
    assert all(one.startswith(b"a OK") for one in let_in), let_in
    throttle("forgive", client)


def test_status_counts_what_all_workers_do(shared: ServerProcess) -> None:
    time.sleep(1.2)
    before = shared.status()["totals"]
    clients = [smtplib.SMTP("127.0.0.1", shared.smtp, timeout=10) for _ in range(10)]
    for client in clients:
        client.sendmail("a@b.example", [BEN], MESSAGE)
    time.sleep(1.2)
    report = shared.status()
    assert sum(connections(shared, "smtp")) == 10
    assert report["totals"]["stored"] - before["stored"] == 10
    assert report["totals"]["accepted"] - before["accepted"] == 10
    for client in clients:
        client.close()
    config = str(shared.folder / "pillarbox.toml")
    text = subprocess.run(
        [sys.executable, "-m", "pillarbox", "status", "--config", config],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Queue: 0 messages for 0 recipients" in text
    assert [line.split()[0] for line in text.splitlines()[-2:]] == ["1", "2"]


def test_connections_of_one_address_are_counted_in_all_workers(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1, "connections_per_address = 10", workers=2)
    server.start()
    server.wait_for_workers()
    held = []
    answers = []
    for _ in range(30):
        sock = socket.create_connection(("127.0.0.1", server.smtp), 10)
        held.append(sock)
        answers.append(sock.recv(100)[:3])
    assert answers == [b"220"] * 10 + [b"421"] * 20
    for sock in held:
        sock.close()
    time.sleep(0.3)
    assert socket.create_connection(("127.0.0.1", server.smtp), 10).recv(3) == b"220"
    assert server.stop() == 0


def test_connections_in_a_minute_are_counted_in_all_workers(tmp_path: Path) -> None:
    extra = "[smtp]\nconnections_per_minute = 6\n"
    server = ServerProcess(tmp_path, 1, extra, workers=2)
    server.start()
    server.wait_for_workers()
    # The start has made one or two connections itself, to see whether it answers.
    answers = []
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.smtp), 10) as sock:
            answers.append(sock.recv(100)[:3])
    assert 3 <= answers.count(b"220") <= 6
    assert server.stop() == 0


def test_a_supervisor_that_is_killed_takes_its_workers_along_and_the_next_binds_at_once(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path, 2, workers=2)
    server.start()
    pids = server.wait_for_workers()
    client = smtplib.SMTP("127.0.0.1", server.smtp, timeout=10)
    client.sendmail("a@b.example", [ANN], MESSAGE)
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    begin = time.monotonic()
    server.start()
    assert time.monotonic() - begin < 10, "a busy machine; alone it takes a second"
    while any(lives(pid) for pid in pids):  # a process that ends gives up its files first
        assert time.monotonic() - begin < 20
        time.sleep(0.01)
    server.wait_for_workers()
    pop3 = poplib.POP3("127.0.0.1", server.pop3, timeout=10)
    pop3.user(ANN)
    pop3.pass_(PASSWORD)
    assert pop3.stat()[0] == 1
    pop3.quit()
    assert server.stop() == 0


def test_a_server_that_is_stopped_while_it_starts_ends(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1, workers=2)
    for tenths in range(3, 13, 2):
        server.spawn()
        time.sleep(tenths / 10)  # before, between and after the starts of its workers
        begin = time.monotonic()
        assert server.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - begin < 20
    assert "Traceback" not in (tmp_path / "out").read_text()


def test_a_second_server_is_refused_though_ports_may_be_shared(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "one", 1, workers=2)
    server.start()
    other = ServerProcess(tmp_path / "two", 1, workers=2)
    config = other.folder / "pillarbox.toml"
    config.write_text(config.read_text().replace(str(other.smtp), str(server.smtp)))
    for folder, what in (
        (server.folder, "another Pillarbox uses"),
        (other.folder, "another program has this port"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pillarbox", "serve", "--config", folder / "pillarbox.toml"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 1
        assert what in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert server.stop() == 0


def test_a_stop_waits_for_the_message_in_hand_in_every_worker(tmp_path: Path) -> None:
    """SIGTERM: no new clients, parting words for idle ones, and what was begun is done."""
    server = ServerProcess(tmp_path, 1, workers=2)
    server.start()
    server.wait_for_workers()

    async def scenario() -> None:
        busy = [await Smtp.connect(server.smtp) for _ in range(8)]
        idle = [await Imap.connect(server.imap, 0) for _ in range(4)]
        for smtp in busy:
            for line in ("MAIL FROM:<a@b.example>", f"RCPT TO:<{ANN}>", "DATA"):
                assert (await smtp.say(line))[0] in "23"
            smtp.writer.write(MESSAGE)
        assert server.process is not None
        server.process.terminate()
        for imap in idle:
            assert (await imap.reader.readline()).startswith(b"* BYE")
        for smtp in busy:
            smtp.writer.write(b".\r\n")
            assert (await smtp.reply()).startswith("250 2.0.0")
        with pytest.raises(ConnectionError):
            await Smtp.connect(server.smtp)

    asyncio.run(scenario())
    assert server.process is not None
    assert server.process.wait(20) == 0
    assert not list((tmp_path / "data" / "journal").iterdir())
    with pytest.raises(Refused, match="no server runs"):
        ask(tmp_path / "data")


def wait_until(is_so: Callable[[], bool]) -> None:
    """What another process does is seen by looking again."""
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stop_that_waits_is_told_by_status(tmp_path: Path) -> None:
    """Which workers have ended, and which still have a session."""
    server = ServerProcess(tmp_path, 1, workers=2)
    server.start()
    server.wait_for_workers()
    config = str(tmp_path / "pillarbox.toml")

    def told(command: str) -> list[str]:
        arguments = [sys.executable, "-m", "pillarbox", command, "--config", config]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    def states() -> list[str]:
        return sorted(worker["state"] for worker in server.status()["workers"])

    assert (server.status()["stopping"], states()) == (False, ["running", "running"])
    client = smtplib.SMTP("127.0.0.1", server.smtp, timeout=40)
    client.ehlo()
    client.mail("a@b.example")
    client.rcpt(ANN)
    client.docmd("DATA")
    assert server.process is not None
    server.process.terminate()
    wait_until(lambda: states() == ["ended", "stopping"])
    report = server.status()
    assert report["stopping"]
    assert sorted(bool(worker["pid"]) for worker in report["workers"]) == [False, True]
    lines = told("status")
    assert lines[0].endswith(" s, is stopping.")
    assert sum(" stopping " in line for line in lines[1:]) == 1
    assert sum(" ended " in line for line in lines[1:]) == 1
    lines = told("top")
    assert " s, is stopping, 1 of 2 workers serve" in lines[0]
    assert [line for line in lines if re.match("[12] ended ", line)]
    assert client.docmd(".")[0] == 250
    assert server.process.wait(40) == 0


def test_sighup_lets_every_worker_take_up_a_new_certificate(tmp_path: Path) -> None:
    """And ends nothing."""
    server = ServerProcess(tmp_path, 1, workers=2)
    server.start()
    pids = server.wait_for_workers()
    client = smtplib.SMTP("127.0.0.1", server.smtp, timeout=10)
    client.ehlo()
    for name in ("host.pem", "host-key.pem"):
        (tmp_path / "data" / "tls" / name).unlink()
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: (tmp_path / "out").read_text().count("is in use") >= 2)
    assert client.noop()[0] == 250
    assert server.workers() == pids
    assert server.stop() == 0


def test_a_worker_that_is_killed_loses_its_leases_and_counts(tmp_path: Path) -> None:
    """What it held for others is given back: connections of an address, and watches."""
    server = ServerProcess(tmp_path, 1, "connections_per_address = 10", workers=2)
    server.start()
    server.wait_for_workers()
    held = [socket.create_connection(("127.0.0.1", server.smtp), 10) for _ in range(10)]
    assert all(sock.recv(100)[:3] == b"220" for sock in held)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    server.wait_for_workers()
    again = [socket.create_connection(("127.0.0.1", server.smtp), 10) for _ in range(10)]
    assert all(sock.recv(100)[:3] == b"220" for sock in again)
    for sock in (*held, *again):
        sock.close()
    assert server.stop() == 0


def test_a_worker_that_can_open_no_more_files_keeps_no_client_waiting(tmp_path: Path) -> None:
    """Whom it cannot serve sees the end of the connection at once; the other worker serves the rest."""
    server = ServerProcess(tmp_path, 1, workers=2)
    server.start()
    full = server.wait_for_workers()[1]
    opened = len(os.listdir(f"/proc/{full}/fd"))
    limits = resource.prlimit(full, resource.RLIMIT_NOFILE)
    resource.prlimit(full, resource.RLIMIT_NOFILE, (opened, limits[1]))

    def greeted(count: int) -> int:
        made = [socket.create_connection(("127.0.0.1", server.smtp), 5) for _ in range(count)]
        words = []
        for sock in made:
            try:
                words.append(sock.recv(100))  # raises TimeoutError
            except ConnectionResetError:
                words.append(b"")
        for sock in made:
            sock.close()
        assert {word[:3] for word in words} <= {b"220", b""}
        return sum(word[:3] == b"220" for word in words)

    assert greeted(20) > 0
    resource.prlimit(full, resource.RLIMIT_NOFILE, limits)
    time.sleep(2.5)
    assert greeted(20) == 20
    assert server.stop() == 0

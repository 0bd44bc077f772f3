"""`pillarbox trace` as people run it, with a server of two workers that runs as a process."""

import imaplib
import json
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from replay import PlainSocket, Wire, read_transcript, replay
from serverprocess import DOMAIN, PASSWORD, ServerProcess

from pillarbox.app.status import ask
from pillarbox.app.watching import watch_name
from pillarbox.testing import MailServer

ANN, BEN, CY = (f"user{number}@{DOMAIN}" for number in range(3))
WAIT_S = 15.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("trace"), 3, workers=2, tls=True)
    server.start()
    wait_until(lambda: all(each["serves"] for each in ask(server.folder / "data")["workers"]))
    yield server
    assert server.stop() == 0
    assert "Traceback" not in (server.folder / "out").read_text()


def wait_until(is_so: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


class Viewer:
    """The command, while it runs."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out = folder / f"viewer-{time.monotonic_ns()}"
        self.errors = self._out.with_suffix(".err")
        command = [sys.executable, "-m", "pillarbox", "trace", *arguments]
        with self._out.open("wb") as out, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, "--config", str(folder / "pillarbox.toml")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=folder,
            )
        wait_until(lambda: "looking on" in self.errors.read_text() or self.process.poll())
        assert self.process.poll() is None, self.errors.read_text()

    @property
    def text(self) -> str:
        return self._out.read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        wait_until(lambda: self.text.count(text) >= count)

    def end(self) -> list[dict[str, Any]]:
        """Ctrl-C; the lines as JSON, if that was asked for."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(WAIT_S) == 0, self.errors.read_text()
        assert "Traceback" not in self.errors.read_text()
        lines = self.text.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def looking_on(server: ServerProcess, *arguments: str) -> Iterator[Viewer]:
    viewer = Viewer(server.folder, *arguments)
    try:
        yield viewer
    finally:
        viewer.process.kill()
        viewer.process.wait()


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """(exit code, stderr) of a command that ends by itself."""
    config = folder / "pillarbox.toml"
    command = [sys.executable, "-m", "pillarbox", "trace", "--config", str(config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@contextmanager
def opened(port: int) -> Iterator[Any]:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        sock.makefile("rwb") as file,
    ):
        yield file


def imap(server: ServerProcess, user: str = ANN) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(user, PASSWORD)
    return client


def submit(server: ServerProcess, sender: str = ANN, to: str = BEN) -> None:
    with smtplib.SMTP("127.0.0.1", server.submission, "client.example.org", 10) as client:
        client.login(sender, PASSWORD)
        client.sendmail(sender, [to], b"Subject: plans\r\n\r\nThe plan is secret.\r\n")


def fetch_by_pop3(server: ServerProcess, user: str = BEN) -> None:
    client = poplib.POP3("127.0.0.1", server.pop3, timeout=10)
    client.user(user)
    client.pass_(PASSWORD)
    client.retr(client.stat()[0])
    client.quit()


def said(lines: list[dict[str, Any]], service: str) -> list[tuple[str, str, str, str]]:
    """(who, text, state, account) of the first session of a service."""
    session = next(line["session"] for line in lines if line.get("service") == service)
    return [
        (line["who"], line["text"], line["stage"], line["account"])
        for line in lines
        if line.get("session") == session
    ]


def test_each_line_has_its_state_and_account_and_no_secret(server: ServerProcess) -> None:
    with looking_on(server, "--json") as viewer:
        submit(server)
        fetch_by_pop3(server)
        client = imap(server, BEN)
        client.select()
        client.append("Sent", None, None, b"Subject: mine\r\n\r\nAnother secret.\r\n")
        client.fetch("1:*", "(FLAGS BODY.PEEK[])")
        client.logout()
        viewer.wait_for('"text": "closed"', 3)
        lines = viewer.end()

    smtp = said(lines, "submission")
    assert ("client", "AUTH PLAIN <secret>", "ehlo", "") in smtp
    assert ("client", f"mail FROM:<{ANN}> size=39", "ehlo", ANN) in smtp
    assert ("server", "250 2.1.0 Ok", "mail", ANN) in smtp
    assert ("client", f"rcpt TO:<{BEN}>", "mail", ANN) in smtp
    assert ("client", "<39 octets of a message>", "data", ANN) in smtp
    pop3 = said(lines, "pop3")
    assert ("client", f"USER {BEN}", "authorization", "") in pop3
    assert ("client", "PASS <secret>", "authorization", "") in pop3
    assert ("server", "+OK Logged in.", "transaction", BEN) in pop3
    assert any(re.fullmatch("<[0-9]+ octets of a message>", text) for _, text, _, _ in pop3)
    by_imap = said(lines, "imap")
    assert any(
        text.endswith(f"LOGIN {BEN} <secret>") and stage == "not authenticated" and not account
        for _, text, stage, account in by_imap
    )
    assert ("client", "<34 octets of a message>", "selected INBOX", BEN) in by_imap
    assert any(
        re.fullmatch(r"\* 1 FETCH \(.*BODY\[\] <[0-9]+ octets>\)", text)
        for _, text, _, _ in by_imap
    )
    whole = json.dumps(lines)
    coded = b64encode(f"\0{ANN}\0{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, coded, "The plan", "Another secret"):
        assert secret not in whole
    assert {line["session"].partition("-")[0] for line in lines if line["session"]} <= {"1", "2"}


def test_scram_and_login_by_literals_show_nothing(server: ServerProcess) -> None:
    with looking_on(server, "--protocol", "imap") as viewer:
        with opened(server.imap) as file:
            file.readline()
            for line in (
                b"a LOGIN {%d}" % len(BEN),
                b"%b {%d}" % (BEN.encode(), len(PASSWORD)),
                PASSWORD.encode(),
            ):
                file.write(line + b"\r\n")
                file.flush()
                assert file.readline()[:4] in (b"+ OK", b"a OK")
        first = b64encode(b"n,,n=" + CY.encode() + b",r=abcdefgh")
        with opened(server.imap) as file:
            file.readline()
            file.write(b"b AUTHENTICATE SCRAM-SHA-256 " + first + b"\r\n")
            file.flush()
            challenge = file.readline()
            assert challenge.startswith(b"+ ")
            file.write(b64encode(b"c=biws,r=x,p=AAAA") + b"\r\nlater\r\n")
            file.flush()
            file.readline()
            file.readline()
        viewer.wait_for("closed", 2)
        viewer.end()
        text = viewer.text
    assert "C: a LOGIN <secret>" in text
    assert "C: b AUTHENTICATE SCRAM-SHA-256 <secret>" in text
    assert "S: + <challenge>" in text
    for secret in (PASSWORD, first.decode(), challenge[2:].strip().decode(), "p=AAAA", "later"):
        assert secret not in text


def test_sessions_that_are_open_are_attached_to_in_all_workers(server: ServerProcess) -> None:
    clients = [imap(server) for _ in range(6)]
    for client in clients:
        client.select()
    with looking_on(server, "--account", ANN) as viewer:
        viewer.wait_for("is open already", 6)
        for client in clients:
            client.noop()
        viewer.wait_for("NOOP completed", 6)
        assert "6 sessions are open" in viewer.errors.read_text()
        viewer.end()
        workers = set(re.findall(r"Z ([12])-[0-9a-f]+ imap", viewer.text))
    assert workers == {"1", "2"}
    assert f"{ANN} (selected INBOX) C: " in viewer.text
    for client in clients:
        client.logout()


def test_an_idle_client_is_seen_at_once(server: ServerProcess) -> None:
    with opened(server.imap) as file:
        file.readline()
        for line in (f"a LOGIN {CY} {PASSWORD}".encode(), b"b SELECT INBOX", b"c IDLE"):
            file.write(line + b"\r\n")
            file.flush()
            while not file.readline().startswith((line[:2], b"+ ")):
                pass
        with looking_on(server, "--account", CY) as viewer:
            submit(server, to=CY)
            viewer.wait_for("selected INBOX, idle) S: * 1 EXISTS")
            viewer.end()


def test_a_session_of_an_account_is_shown_from_its_beginning(server: ServerProcess) -> None:
    with looking_on(server, "--account", BEN.upper(), "--json") as viewer:
        imap(server, ANN).logout()
        submit(server, ANN)
        imap(server, BEN).logout()
        viewer.wait_for('"text": "closed"')
        lines = viewer.end()
    assert {line["service"] for line in lines} == {"imap"}
    assert lines[0]["text"].startswith("connected to")
    assert {line["account"] for line in lines} == {"", BEN}


def test_logins_of_an_account_that_fail_are_shown(server: ServerProcess) -> None:
    """They are what is looked for when somebody cannot log in."""
    with looking_on(server, "--account", CY) as viewer:
        client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
        with pytest.raises(imaplib.IMAP4.error):
            client.login(CY, "wrong")
        client.logout()
        client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
        with pytest.raises(imaplib.IMAP4.error):
            client.login(BEN, "wrong")
        client.login(ANN, PASSWORD)
        client.logout()
        smtp = smtplib.SMTP("127.0.0.1", server.submission, "x", 10)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(CY, "wrong")
        smtp.quit()
        viewer.wait_for("closed", 2)
        viewer.end()
    assert "- (not authenticated) S: * OK [CAPABILITY" in viewer.text
    assert "NO [AUTHENTICATIONFAILED]" in viewer.text
    assert "S: 535 " in viewer.text
    assert BEN not in viewer.text
    assert ANN not in viewer.text


def test_of_a_long_beginning_the_last_lines_are_kept(server: ServerProcess) -> None:
    with looking_on(server, "--account", BEN, "--protocol", "imap") as viewer:
        with opened(server.imap) as file:
            file.readline()
            for number in range(60):
                file.write(b"a%d NOOP\r\n" % number)
                file.flush()
                file.readline()
            file.write(f"b LOGIN {BEN} {PASSWORD}\r\nc LOGOUT\r\n".encode())
            file.flush()
            while file.readline():
                pass
        viewer.wait_for("closed")
        viewer.end()
    assert re.search(r"^\.\.\. [0-9]+ lines not shown$", viewer.text, re.MULTILINE)
    assert "C: a0 NOOP" not in viewer.text
    assert "C: a59 NOOP" in viewer.text


def test_address_and_protocol_choose_sessions(server: ServerProcess) -> None:
    with looking_on(
        server, "--address", "127.0.0.9", "--address", "10.0.0.0/8", "--protocol", "smtp", "--json"
    ) as viewer:
        for client in ("127.0.0.1", "127.0.0.9"):
            with smtplib.SMTP("127.0.0.1", server.smtp, "x", 10, (client, 0)) as smtp:
                smtp.ehlo()
        imap(server).logout()
        viewer.wait_for('"text": "closed"')
        lines = viewer.end()
    assert {(line["client"], line["service"]) for line in lines} == {("127.0.0.9", "smtp")}


def test_lines_of_a_client_that_say_nothing_are_left_out_and_long_ones_cut(
    server: ServerProcess,
) -> None:
    with looking_on(server, "--protocol", "imap", "--short") as viewer:
        client = imap(server)
        client.append("INBOX", "", "", b"Subject: x\r\n\r\nhi\r\n")
        client.logout()
        viewer.wait_for("closed")
        viewer.end()
    said_by_client = re.findall(r"\) C: (.*)", viewer.text)
    assert "<18 octets of a message>" in said_by_client
    assert "" not in said_by_client
    cut = re.findall(r"\) S: (.*)<(\d+) more>$", viewer.text, re.MULTILINE)
    assert cut
    assert all(len(begun) == 100 and int(more) > 0 for begun, more in cut)


def test_a_service_that_begins_with_tls_can_be_chosen_by_itself(server: ServerProcess) -> None:
    with looking_on(server, "--protocol", "imaps", "--json") as viewer:
        imap(server).logout()
        with imaplib.IMAP4_SSL("127.0.0.1", server.imaps, ssl_context=unverified()):
            pass
        viewer.wait_for('"text": "closed"')
        lines = viewer.end()
    assert {line["service"] for line in lines} == {"imaps"}


def test_what_is_said_under_tls_is_shown_and_marked(server: ServerProcess) -> None:
    context = unverified()
    with looking_on(server) as viewer:
        with smtplib.SMTP("127.0.0.1", server.submission, "x", 10) as client:
            client.starttls(context=context)
            client.ehlo("again.example")
        imaplib.IMAP4_SSL("127.0.0.1", server.imaps, ssl_context=context).logout()
        viewer.wait_for("closed", 2)
        viewer.end()
    assert "- (ehlo) C: STARTTLS" in viewer.text
    assert "- [TLS] (connected) C: ehlo again.example" in viewer.text
    assert "- [TLS] (not authenticated) S: * OK [CAPABILITY " in viewer.text


def test_nothing_that_a_stranger_sends_moves_the_cursor(server: ServerProcess) -> None:
    with looking_on(server) as viewer:
        with socket.create_connection(("127.0.0.1", server.smtp), 10) as sock:
            sock.recv(1000)
            sock.sendall("NOOP \x1b[2J\x9b\u202e\u2028 \x07\r\nNOOP \xff\r\nQUIT\r\n".encode())
            sock.sendall(b"")
            while sock.recv(1000):
                pass
        viewer.wait_for("closed")
        viewer.end()
    assert r"C: NOOP \x1b[2J\x9b\u202e\u2028 \x07" in viewer.text
    assert all(character.isprintable() or character == "\n" for character in viewer.text)


def test_many_octets_of_a_stranger_are_cut(server: ServerProcess) -> None:
    with looking_on(server) as viewer:
        with socket.create_connection(("127.0.0.1", server.smtp), 10) as sock:
            sock.recv(1000)
            sock.sendall(b"NOOP " + b"x" * 100_000 + b"\r\nQUIT\r\n")
            while sock.recv(1000):
                pass
        viewer.wait_for("closed")
        viewer.end()
    assert "C: <a line that is too long>" in viewer.text


def test_a_slow_viewer_holds_nobody_up_and_hears_what_it_missed(server: ServerProcess) -> None:
    pairs = []
    for worker in (1, 2):
        sock = socket.socket(socket.AF_UNIX)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        descriptor = os.open(server.folder / "data", os.O_PATH)
        sock.connect(f"/proc/self/fd/{descriptor}/{watch_name(worker)}")
        os.close(descriptor)
        sock.sendall(b"{}\n")
        pairs.append(sock)
    time.sleep(0.3)
    client = smtplib.SMTP("127.0.0.1", server.smtp, "x", 20)
    client.ehlo()
    count = 300
    began = time.monotonic()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.smtp), 10) as other:
            other.recv(1000)
            other.sendall(b"NOOP " + b"y" * 2000 + b"\r\n" + (b"NOOP %b\r\n" % (b"z" * 1900)) * 5)
            other.sendall(b"QUIT\r\n")
            while other.recv(100_000):
                pass
    assert time.monotonic() - began < 20
    assert client.noop()[0] == 250
    missed = 0
    for sock in pairs:
        sock.settimeout(0.5)
        octets = b""
        with suppress(TimeoutError):
            while piece := sock.recv(1 << 20):
                octets += piece
        missed += sum(map(int, re.findall(rb'"missed":([0-9]+)', octets)))
        sock.close()
    client.quit()
    assert missed > 100


def test_a_reader_that_has_enough_ends_it(server: ServerProcess) -> None:
    config = str(server.folder / "pillarbox.toml")
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", "trace", "--config", config, "--protocol", "imap"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "looking on" in process.stderr.readline()
    imap(server).logout()
    process.stdout.readline()
    process.stdout.close()
    imap(server).logout()
    assert process.wait(WAIT_S) == 1
    rest = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in rest
    assert "has ended" not in rest


def test_a_viewer_that_is_killed_leaves_no_trace(server: ServerProcess) -> None:
    client = imap(server)
    with looking_on(server) as viewer:
        viewer.wait_for("is open already")
        viewer.process.kill()
        viewer.process.wait()
        for _ in range(3):
            assert client.noop()[0] == "OK"
            time.sleep(0.1)
    client.logout()
    submit(server)


def test_nine_viewers_are_too_many(server: ServerProcess) -> None:
    viewers = []
    try:
        for _ in range(8):
            viewers.append(Viewer(server.folder))
        code, error = run(server.folder)
        assert code == 1
        assert "8 others look on already: end one of them" in error
    finally:
        for viewer in viewers:
            viewer.process.kill()
            viewer.process.wait()


def test_it_ends_after_a_time_and_says_what_it_saw(server: ServerProcess) -> None:
    code, error = run(server.folder, "--for", "0.5", "--address", "::5")
    assert code == 0
    assert "looking on at 2 workers; " in error
    assert "0 lines of 0 sessions" in error


def test_a_worker_that_is_started_again_is_looked_at_again(server: ServerProcess) -> None:
    with looking_on(server) as viewer:
        pid = ask(server.folder / "data")["workers"][1]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "worker 2 is back" in viewer.errors.read_text())
        assert "worker 2 has ended" in viewer.errors.read_text()
        clients = [imap(server) for _ in range(4)]
        wait_until(lambda: re.search(r" 2-[0-9a-f]+ imap", viewer.text))
        for client in clients:
            client.logout()
        viewer.end()


# What is saved


def test_the_socket_is_for_the_server_and_root_only(server: ServerProcess) -> None:
    for worker in (1, 2):
        mode = (server.folder / "data" / watch_name(worker)).stat().st_mode
        assert mode & 0o777 == 0o600


def session_by_smtp(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example.org", 10) as client:
        client.ehlo()
        client.docmd("XYZZY", "hush")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ANN, "wrong")
        client.login(ANN, PASSWORD)
        client.sendmail(ANN, [ANN], b"Subject: one\r\n\r\n.x\r\n")
        client.docmd("MAIL", f"FROM:<{ANN}>")
        client.docmd("RCPT", f"TO:<{ANN}>")
        client.docmd("RCPT", "TO:<>")
        client.send(b"BDAT 16\r\nSubject: two\r\n\r\nBDAT 3 LAST\r\nx\r\n")
        client.getreply()
        client.getreply()


def session_by_imap(port: int) -> None:
    client = imaplib.IMAP4("127.0.0.1", port, timeout=10)
    with pytest.raises(imaplib.IMAP4.error):
        client.login(ANN, "wrong")
    client.authenticate("PLAIN", lambda _: f"\0{ANN}\0{PASSWORD}".encode())
    client.list()
    client.literal = b"INBOX"
    client._simple_command("EXAMINE")
    client.select()
    client.append("INBOX", r"(\Seen)", None, b"Subject: three\r\n\r\nfour\r\n")
    with pytest.raises(imaplib.IMAP4.error):
        client.xatom("XYZZY")
    client.append("Nowhere", None, None, b"x")
    client.uid("SEARCH", "TEXT", "one")
    client.fetch("1:*", "(UID FLAGS ENVELOPE BODY.PEEK[])")
    client.store("1", "+FLAGS", r"(\Deleted)")
    client.copy("1", "Trash")
    client.expunge()
    client.logout()


def session_by_pop3(port: int) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=10)
    client.capa()
    client.user(ANN)
    client.pass_(PASSWORD)
    client.list()
    client.uidl()
    client.retr(1)
    client.top(1, 0)
    with pytest.raises(poplib.error_proto):
        client.dele(99)
    client.dele(1)
    client.rset()
    client.quit()


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def session_by_smtp_with_starttls(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.example.org", 10) as client:
        client.starttls(context=unverified())
        client.login(ANN, PASSWORD)
        client.send_message(EmailMessage(), ANN, [ANN])


def session_by_imap_with_starttls(port: int) -> None:
    client = imaplib.IMAP4("127.0.0.1", port, timeout=10)
    client.starttls(unverified())
    client.login(ANN, PASSWORD)
    client.select()
    with pytest.raises(imaplib.IMAP4.error):
        client.xatom("IDLE-NOT")
    client.close()
    client.logout()


SESSIONS = [
    ("submission", session_by_smtp),
    ("submission", session_by_smtp_with_starttls),
    ("imap", session_by_imap),
    ("imap", session_by_imap_with_starttls),
    ("pop3", session_by_pop3),
]


@pytest.mark.parametrize(("service", "session"), SESSIONS)
def test_a_saved_session_is_replayed_by_the_runner(
    server: ServerProcess, service: str, session: Callable[[int], None], tmp_path: Path
) -> None:
    file = tmp_path / "session.txt"
    submit(server, ANN, ANN)
    port = {"submission": server.submission, "imap": server.imap, "pop3": server.pop3}[service]
    with looking_on(server, "--save", str(file), "--protocol", service) as viewer:
        session(port)
        viewer.wait_for("closed")
        viewer.end()
        assert f"{file}: {service} session" in viewer.errors.read_text()
    text = file.read_text()
    for secret in (ANN, PASSWORD + "X", "three", "hush"):
        assert secret not in text
    play(read_transcript(file), service)


def play(lines: list[Any], service: str) -> None:
    with MailServer(
        {"user@example.com": "password"}, hostname="mail.example.com", allow_cleartext_login=True
    ) as lab:
        with smtplib.SMTP(lab.host, lab.ports["smtp"], timeout=10) as client:
            for _ in range(3):
                client.sendmail(
                    "a@b.example", "user@example.com", "Subject: Hello\r\n\r\nHello\r\n"
                )
        wire: Wire = PlainSocket(lab.host, lab.ports[service])
        try:
            replay(lines, wire, lambda line: line[3:4] == " ")
        finally:
            wire.close()


def test_each_session_has_a_file_of_its_own(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "session.txt"
    old = imap(server)
    with looking_on(server, "--save", str(file), "--protocol", "imap") as viewer:
        for _ in range(3):
            imap(server).logout()
        late = imap(server)
        viewer.wait_for("closed", 3)
        viewer.wait_for(f"{ANN} (authenticated) S: ", 4)
        viewer.end()
        errors = viewer.errors.read_text()
    late.logout()
    old.logout()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"session{end}.txt" for end in ("-2", "-3", "-4", "")]
    assert "not saved: 1 session that had begun before" in errors


def test_without_a_session_no_file_is_left(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "session.txt"
    code, error = run(server.folder, "--save", str(file), "--for", "0.5")
    assert code == 0
    assert "no session began, so nothing was saved" in error
    assert not file.exists()


# What cannot be


def test_wrong_arguments_are_told_in_one_line(server: ServerProcess) -> None:
    for arguments, words in (
        (["--address", "nowhere"], '"nowhere" is not an IP address or network'),
        (["--protocol", "ftp"], "'ftp' is not one of"),
        (["--for", "0"], "0.0 is not in the range"),
        (["--for", "soon"], "'soon' is not a valid float"),
        (["--loud"], "No such option"),
        (["--short", "--json"], "--short or --json, not both"),
        ([ANN], f"Did you mean --account {ANN}?"),
        (["127.0.0.0/8"], "Did you mean --address 127.0.0.0/8?"),
        (["imaps"], "Did you mean --protocol imaps?"),
        (["what"], "Got unexpected extra argument (what).\n"),
    ):
        code, error = run(server.folder, *arguments)
        assert code == 2
        assert words in error


def test_a_missing_account_is_told(server: ServerProcess) -> None:
    code, error = run(server.folder, "--account", f"nobody@{DOMAIN}")
    assert (code, error) == (
        1,
        f"pillarbox: there is no account nobody@{DOMAIN}; see: pillarbox account list\n",
    )
    code, error = run(server.folder, "--account", "nobody")
    assert code == 1
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_told(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    code, error = run(server.folder, "--save", str(tmp_path / "there"))
    assert code == 1
    assert error.endswith("there exists already: name another file to save to\n")
    assert (tmp_path / "there").read_text() == "mine"
    code, error = run(server.folder, "--save", str(tmp_path / "no" / "such"))
    assert code == 1
    assert "No such file or directory; name another file" in error
    code, error = run(server.folder, "--save", str(tmp_path))
    assert code == 2
    assert "is a directory" in error


def test_a_server_that_does_not_run_is_told(tmp_path: Path) -> None:
    stopped = ServerProcess(tmp_path / "stopped", 1)
    code, error = run(stopped.folder)
    assert (code, error) == (
        1,
        f"pillarbox: no server runs on {stopped.folder / 'data'}; start it with: pillarbox serve\n",
    )


def test_a_server_that_stops_meanwhile_is_told(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "short", 1)
    server.start()
    viewer = Viewer(server.folder)
    assert server.stop() == 0
    assert viewer.process.wait(WAIT_S) == 1
    assert viewer.errors.read_text().splitlines()[-1] == (
        "pillarbox: the server has stopped; start it with: pillarbox serve"
    )


@pytest.fixture
def open_ways(server: ServerProcess) -> Iterator[None]:
    """Anybody may go as far as the configuration, and look at it."""
    config = server.folder / "pillarbox.toml"
    wanted = {config: 0o004, **dict.fromkeys(config.parents, 0o001)}
    closed = [(path, path.stat().st_mode) for path in wanted]
    closed = [(path, mode) for path, mode in closed if mode & wanted[path] != wanted[path]]
    for path, mode in closed:
        path.chmod(mode | wanted[path])
    yield
    for path, mode in closed:
        path.chmod(mode)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing")
@pytest.mark.usefixtures("open_ways")
def test_who_may_not_look_on_is_told(server: ServerProcess) -> None:
    config = str(server.folder / "pillarbox.toml")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    command += ["-m", "pillarbox", "trace", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 1
    assert f"nobody may not use {server.folder / 'data'}" in done.stderr
    assert done.stderr.endswith("; run this as root\n")
    assert done.stderr.count("\n") == 1

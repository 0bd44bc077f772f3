"""The rows of `python -m bench imap`: what IMAP clients wait for, one server at a time, and their bars."""

import random
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from statistics import median, quantiles

from bench.imap_load import MIXED_MESSAGES
from bench.load import DOMAIN, make_message
from bench.mailbox import Client, Imap
from bench.peer import PostfixDovecot
from bench.pillarbox_server import PillarboxServer
from bench.report import Bar, Row, report
from bench.running import Server, all_servers, cpu_s, in_turns, new_row, run_load, settle

MIXED_SESSIONS = 50
IDLER = 1
"""The user whose mail is waited for; user 0 has the large mailbox, those from 2 on are for many sessions."""
FIRST_OF_MIXED = 2
ACCOUNTS = FIRST_OF_MIXED + MIXED_SESSIONS
SOME = 1000
"""Messages that are copied, moved and expunged at once."""


BARS = {
    "SELECT": Bar(),
    "FETCH FLAGS": Bar(),
    "FETCH ENVELOPE BODYSTRUCTURE, cold": Bar(20),
    "FETCH ENVELOPE BODYSTRUCTURE, warm": Bar(3),
    "FETCH HEADER.FIELDS": Bar(),
    "FETCH BODY[]": Bar(),
    "SORT (DATE)": Bar(),
    "SORT (SUBJECT)": Bar(),
    "THREAD REFERENCES": Bar(),
    "SEARCH SUBJECT, ours without its index": Bar(),
    "SEARCH SUBJECT, ours with its index": Bar(),
    "SEARCH TEXT, ours without its index": Bar(),
    "SEARCH TEXT, ours with its index": Bar(50),
    "STORE 1:* +FLAGS": Bar(0.5),
    "COPY of 1,000": Bar(),
    "MOVE of 1,000": Bar(),
    "EXPUNGE of 1,000": Bar(0.5),
    "APPEND": Bar(),
    "IDLE: EXISTS behind the 250, p50": Bar(0, at_most=20),
    "IDLE: EXISTS behind the 250, p99": Bar(0),
    "logins/s": Bar(more_is_better=True),
    "logins/s, TLS": Bar(more_is_better=True),
    "mixed load of 50 clients, commands/s": Bar(1.5, more_is_better=True),
}
"""Milliseconds where nothing else is said."""

_FETCHES = {
    "FETCH FLAGS": "FETCH 1:* (FLAGS)",
    "FETCH ENVELOPE BODYSTRUCTURE, warm": "FETCH 1:* (ENVELOPE BODYSTRUCTURE)",
    "FETCH HEADER.FIELDS": "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])",
    "FETCH BODY[]": "FETCH 1:* (BODY.PEEK[])",
    "SORT (DATE)": "SORT (DATE) UTF-8 ALL",
    "SORT (SUBJECT)": "SORT (SUBJECT) UTF-8 ALL",
    "THREAD REFERENCES": "THREAD REFERENCES UTF-8 ALL",
}

_SUBJECT = 'SEARCH SUBJECT "report 77 "'
_NEEDLE = 'SEARCH TEXT "needle7777"'


def run(messages: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    rows = in_turns(
        all_servers(peer, ACCOUNTS, workers), rounds, lambda server: _row(server, messages)
    )
    title = f"imap: {messages} messages of 4 KiB, milliseconds or as said, medians of {rounds}"
    report(title, rows, BARS, save=save)


def _row(server: Server, messages: int) -> Row:
    row = new_row(server)
    figures = row.figures
    user = f"user0@{DOMAIN}"
    client = Imap(server.imap, user)
    fill(client, messages)
    client.command("CREATE Other")
    client.close()
    settle(server)
    server.restart()
    _make_cold(server)
    client = Imap(server.imap, user)
    client.command("SELECT INBOX")
    name = "FETCH ENVELOPE BODYSTRUCTURE, cold"
    figures[name] = client.command(_FETCHES["FETCH ENVELOPE BODYSTRUCTURE, warm"]) * 1000
    settle(server)  # the rest of the machine, too, gets back what was dropped
    figures["SELECT"] = median(client.command("SELECT INBOX") for _ in range(5)) * 1000
    for name, command in _FETCHES.items():
        client.command(command)  # fills the peer's cache
        figures[name] = median(client.command(command) for _ in range(5)) * 1000
    row.notes = _search(server, client, figures)
    _change(client, figures)
    client.close()
    settle(server)
    p50, p99 = _idle(server)
    figures["IDLE: EXISTS behind the 250, p50"] = p50
    figures["IDLE: EXISTS behind the 250, p99"] = p99
    for number in range(FIRST_OF_MIXED, ACCOUNTS):
        client = Imap(server.imap, f"user{number}@{DOMAIN}")
        fill(client, MIXED_MESSAGES)
        client.close()
    settle(server)
    figures["logins/s"] = _load(server, "logins", server.imap, 10, 500)
    figures["logins/s, TLS"] = _load(server, "logins", server.imaps, 10, 500)
    figures["mixed load of 50 clients, commands/s"] = _load(
        server, "mixed", server.imap, MIXED_SESSIONS, 4
    )
    return row


def fill(client: Imap, messages: int) -> None:
    """APPEND to INBOX, a hundred at a time: subjects, threads of ten, one rare word in each."""
    dice = random.Random(3)
    bases = [make_message(dice, number, 4096) for number in range(50)]
    for start in range(0, messages, 100):
        items = []
        for number in range(start, min(start + 100, messages)):
            head, _, text = bases[number % 50].partition(b"Subject: ")
            _, _, text = text.partition(b"MIME-Version")
            reply = number % 10
            references = b"References: <%d@bench.example>\r\n" % (number - 1) if reply else b""
            octets = (
                b"%bSubject: %bReport %d of the week\r\n"
                b"Date: Mon, %d Nov 2026 10:%02d:%02d +0000\r\n"
                b"Message-ID: <%d@bench.example>\r\n%bMIME-Version%bThe word: needle%d\r\n"
                % (
                    head,
                    b"Re: " if reply else b"",
                    number // 10,
                    1 + number % 28,
                    number // 60 % 60,
                    number % 60,
                    number,
                    references,
                    text,
                    number,
                )
            )
            items.append(b" {%d+}\r\n%b" % (len(octets), octets))
        client.send(b"f APPEND INBOX" + b"".join(items) + b"\r\n")
        answer = client.until(b"\r\nf ")
        if b" OK" not in answer:
            raise RuntimeError(answer.decode())


def _make_cold(server: Server) -> None:
    """Nothing of the mail is in memory, nor in the peer's cache."""
    if isinstance(server, PostfixDovecot):
        for path in server.folder.rglob("dovecot.index.cache"):
            path.unlink()
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def _search(server: Server, client: Imap, figures: dict[str, float]) -> list[str]:
    """SEARCH TEXT and SUBJECT: the first ones of ours read all, later ones have the index."""
    notes = []
    if isinstance(server, PillarboxServer):
        figures["SEARCH SUBJECT, ours without its index"] = client.command(_SUBJECT) * 1000
        before, begin = cpu_s(server), time.monotonic()
        figures["SEARCH TEXT, ours without its index"] = client.command(_NEEDLE) * 1000
        scan_s = cpu_s(server) - before
        seconds = wait_for_index(server) - begin
        used = cpu_s(server) - before - scan_s
        notes.append(
            f"the index was there {seconds:.1f} s after the first search and took {used:.1f} s of CPU"
        )
        times = [client.command(_NEEDLE) for _ in range(5)]
    else:
        client.command(_SUBJECT)  # fills its cache
        figures["SEARCH SUBJECT, ours without its index"] = client.command(_SUBJECT) * 1000
        times = [client.command(_NEEDLE) for _ in range(3)]
        figures["SEARCH TEXT, ours without its index"] = times[0] * 1000
    figures["SEARCH TEXT, ours with its index"] = median(times) * 1000
    times = [client.command(_SUBJECT) for _ in range(5)]
    figures["SEARCH SUBJECT, ours with its index"] = median(times) * 1000
    return notes


def wait_for_index(server: PillarboxServer) -> float:
    """Until the search index has all; the time of `time.monotonic` of that. It is merged when this returns."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.05)
        for path in server.folder.rglob("*.idx"):
            index = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
            try:
                (up_to,) = index.execute("SELECT max(up_to) FROM state").fetchone() or (0,)
            except sqlite3.OperationalError:
                continue  # it is just being made
            finally:
                index.close()
            if up_to is not None and up_to > seen:
                seen, since = up_to, time.monotonic()
    settle(server)
    return since


def _change(client: Imap, figures: dict[str, float]) -> None:
    """What changes the mailbox, medians of three."""
    times: dict[str, list[float]] = {}

    def timed(name: str, command: str) -> None:
        times.setdefault(name, []).append(client.command(command) * 1000)

    for turn in range(6):
        timed("STORE 1:* +FLAGS", f"STORE 1:* {'-' if turn % 2 else '+'}FLAGS (\\Flagged)")
    for _ in range(3):
        timed("COPY of 1,000", f"COPY 1:{SOME} Other")
    for _ in range(3):
        timed("MOVE of 1,000", f"MOVE 1:{SOME} Other")
    for _ in range(3):
        client.command(f"STORE 1:{SOME} +FLAGS.SILENT (\\Deleted)")
        timed("EXPUNGE of 1,000", "EXPUNGE")
    message = make_message(random.Random(4), 1, 4096).decode()
    for _ in range(100):
        timed("APPEND", f"APPEND INBOX {{{len(message)}+}}\r\n{message}")
    for name, found in times.items():
        figures[name] = median(found)


def _idle(server: Server, messages: int = 20) -> tuple[float, float]:
    """Milliseconds from the 250 of a message to its EXISTS at a session in IDLE: p50, p99."""
    client = Imap(server.imap, f"user{IDLER}@{DOMAIN}")
    client.command("SELECT INBOX")
    client.send(b"i IDLE\r\n")
    client.until(b"\r\n+ ")
    seen: list[float] = []
    told = threading.Event()

    def listen() -> None:
        while len(seen) < messages:
            if b" EXISTS" in client.line():
                seen.append(time.perf_counter())
                told.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    smtp = Client(server.smtp)
    smtp.line()
    smtp.send(b"HELO load.example.net\r\n")
    smtp.line()
    body = make_message(random.Random(5), 1, 4096)
    waits = []
    for _ in range(messages):
        told.clear()
        for line in (b"MAIL FROM:<sender@example.net>", b"RCPT TO:<user1@example.test>", b"DATA"):
            smtp.send(line + b"\r\n")
            smtp.line()
        smtp.send(body + b".\r\n")
        answer = smtp.line()
        answered = time.perf_counter()
        if not answer.startswith(b"250") or not told.wait(10):
            raise RuntimeError(f"no EXISTS in ten seconds behind {answer!r}")
        waits.append(max(0.0, seen[-1] - answered) * 1000)
        time.sleep(0.05)
    thread.join(5)
    smtp.close()
    client.close()
    return median(waits), quantiles(waits, n=100, method="inclusive")[98]


def _load(server: Server, kind: str, address: tuple[str, int], sessions: int, count: int) -> float:
    host, port = address
    tls = int(address == server.imaps)
    told = run_load(
        server, "bench.imap_load", kind, host, port, tls, sessions, count, FIRST_OF_MIXED
    )
    return told["rate"]

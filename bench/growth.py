"""Whether the cost of an operation stays the same when accounts and mailboxes grow; Pillarbox alone."""

import random
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from bench.inbound import Mail, measure_mail, send_mail
from bench.load import DOMAIN, make_message
from bench.mailbox import Imap
from bench.pillarbox_server import PillarboxServer
from bench.relay import sink
from bench.report import Row, console, show
from bench.running import cpu_s, settle, with_server

MOST_TIMES = 1.5
SAME_MS = 0.3
"""A difference that is noise."""

WHY = {
    "SELECT after the start": "the UIDs of all messages are read, since message numbers follow"
    " from them (RFC 3501 §2.3.1.2); later ones find them in memory",
    **dict.fromkeys(
        ("COPY of one", "APPEND"),
        "the session has the mailbox open: its list of UIDs, 4 octets a message, is made anew",
    ),
    "warm": "the more accounts share the same mail, the fewer messages an account gets in one transaction",
}
"""Rows that must grow, and the reason."""

ACCOUNTS = (10, 100, 1000, 10_000)
MESSAGES = (1000, 10_000, 100_000, 1_000_000)
FILLED = 1000
"""Messages that are appended; the others are copies of their rows, with the same contents."""

MOST_COUNTED = 1000
"""Accounts that all mail is counted in: a login for each, with a password that nobody proved lately."""

COLD = 2000
"""Messages to accounts of which nothing is open."""


def run_accounts(most: int, *, workers: int, save: bool) -> None:
    rows = []
    with sink(1):
        for accounts in ACCOUNTS:
            if accounts > most:
                break
            make = partial(PillarboxServer, accounts=accounts, workers=workers)
            rows.append(with_server(make, partial(_accounts_row, accounts=accounts)))
            console.print(f"{rows[-1].name}: {rows[-1].figures}")
    _compare("growth: 4 KiB by SMTP to more and more accounts, CPU s per 1,000", rows, save=save)


def _accounts_row(server: PillarboxServer, accounts: int) -> Row:
    row = Row(f"{accounts:,} accounts")
    settle(server)
    touched = min(COLD, 2 * accounts)
    for name in ("the first mail, files are made", "after a restart"):
        before = cpu_s(server)
        send_mail(server, 10, touched, accounts, 4096, 3)
        settle(server)
        row.figures[name] = (cpu_s(server) - before) / touched * 1000
        server.restart()
        settle(server)
    if accounts <= MOST_COUNTED:
        mail = Mail(accounts=accounts)
        row.figures["warm"] = measure_mail(server, mail).figures["CPU s per 1,000"]
    return row


def run_mailbox(most: int, *, workers: int, save: bool) -> None:
    rows: list[Row] = []
    make = partial(PillarboxServer, accounts=1, workers=workers)
    for messages in MESSAGES:
        if messages > most:
            break
        rows.append(with_server(make, partial(_mailbox_row, messages=messages)))
        console.print(f"{rows[-1].name}: {rows[-1].figures}")
    title = "growth: one mailbox with more and more messages (rows copied), milliseconds"
    _compare(title, rows, save=save)


def _mailbox_row(server: PillarboxServer, messages: int) -> Row:
    row = Row(f"{messages:,} messages")
    user = f"user0@{DOMAIN}"
    client = Imap(server.imap, user)
    client.fill(FILLED, 4096)
    client.close()
    server.stop()
    for path in server.folder.rglob("*.db"):
        if "message" in _tables(path):
            _multiply(sqlite3.connect(path), messages)
    server.start_again()
    client = Imap(server.imap, user)
    message = make_message(random.Random(3), 1, 4096).decode()
    timed = row.figures
    timed["SELECT after the start"] = client.command("SELECT INBOX") * 1000
    for name, command, times in (
        ("SELECT", "SELECT INBOX", 5),
        ("STATUS", "STATUS INBOX (MESSAGES UNSEEN UIDNEXT)", 5),
        ("FETCH of the last 50", f"FETCH {messages - 49}:{messages} (UID FLAGS ENVELOPE)", 9),
        ("UID FETCH of one", f"UID FETCH {messages // 2} (FLAGS BODY.PEEK[HEADER])", 9),
        ("STORE of one", f"STORE {messages // 2} FLAGS (\\Seen)", 9),
        ("COPY of one", f"COPY {messages // 3} INBOX", 9),
        ("APPEND", f"APPEND INBOX {{{len(message)}+}}\r\n{message}", 20),
    ):
        timed[name] = median(client.command(command) for _ in range(times)) * 1000
    all_s = median(client.command("FETCH 1:* (FLAGS)") for _ in range(3))
    timed["FETCH 1:* (FLAGS), of each 1,000"] = all_s / messages * 1e6
    client.close()
    return row


def _tables(path: Path) -> set[str]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    finally:
        connection.close()


def _multiply(connection: sqlite3.Connection, messages: int) -> None:
    """Copy the rows of messages, which share their contents as after COPY, until the INBOX has so many."""
    inbox, had = connection.execute(
        "SELECT mailbox, messages FROM mailbox ORDER BY messages DESC LIMIT 1"
    ).fetchone()
    rows = connection.execute("SELECT * FROM message WHERE mailbox = ?", (inbox,)).fetchall()
    times = messages // had
    marks = ",".join("?" * len(rows[0]))
    for turn in range(1, times):
        copies = [(*row[:2], row[2] + turn * had, *row[3:]) for row in rows]
        connection.executemany(f"INSERT INTO message VALUES ({marks})", copies)
    connection.execute(
        "UPDATE mailbox SET uidnext = ?, messages = messages * ?, unseen = unseen * ?, octets = octets * ?"
        " WHERE mailbox = ?",
        (messages + 1, times, times, times, inbox),
    )
    connection.execute(
        "UPDATE account_state SET messages = messages * ?, octets = octets * ?", (times, times)
    )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _compare(title: str, rows: Sequence[Row], *, save: bool) -> None:
    """A line for each figure, and how many times the first one the last one is."""
    lines = []
    for name in rows[0].figures:
        figures = [row.figures[name] for row in rows if name in row.figures]
        first, last = figures[0], figures[-1]
        times = last / max(first, 1e-9)
        is_met = times <= MOST_TIMES or last - first < SAME_MS
        missing = [""] * (len(rows) - len(figures))
        line = [name, *(f"{figure:,.2f}" for figure in figures), *missing, f"{times:.2f} x"]
        lines.append([*line, "met" if is_met else "missed"])
        if not is_met and name in WHY:
            rows[-1].notes.append(f"{name}: {WHY[name]}")
    head = ["row", *(row.name for row in rows), "last to first", f"bar: {MOST_TIMES:g} x"]
    show(title, head, lines, rows, save=save)

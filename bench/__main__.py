"""`python -m bench inbound|fetch|pop3 [--peer postfix-dovecot]`: see the package."""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from bench.load import DOMAIN
from bench.mailbox import Imap, Pop3
from bench.peer import SETTINGS, PostfixDovecot
from bench.pillarbox_server import PillarboxServer

Server = PillarboxServer | PostfixDovecot
R = TypeVar("R")

PEER = "postfix-dovecot"
CORES = 2

console = Console(width=140)


@dataclass(slots=True)
class Row:
    """What one server did in one row."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _with_server(make: Callable[[Path], Server], use: Callable[[Server], R]) -> R:
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=Path.cwd()))
    server = make(folder / "server")
    try:
        folder.chmod(0o755)
        server.start()
        return use(server)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _cpu_s(server: Server) -> float:
    return sum(tree.cpu_s() for tree in server.trees())


def _settle(server: Server) -> None:
    """Until nothing is queued and the server has used no CPU for a second."""
    end = time.monotonic() + 120
    while not server.is_quiet():
        if time.monotonic() > end:
            raise click.ClickException(f"{server.name}: the queue did not become empty")
        time.sleep(0.05)
    before = -1.0
    while (now := _cpu_s(server)) - before > 0.02:
        before = now
        time.sleep(1)


def _delivered(server: Server, accounts: int) -> int:
    total = 0
    for number in range(accounts):
        client = Imap(server.imap, f"user{number}@{DOMAIN}")
        total += client.messages()
        client.close()
    return total


def _load(server: Server, *numbers: int) -> dict[str, float]:
    host, port = server.smtp
    arguments = [sys.executable, "-m", "bench.load", "smtp", host, str(port), *map(str, numbers)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if result.returncode:
        raise click.ClickException(f"{server.name}: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def _servers(peer: str | None, accounts: int) -> list[tuple[str, Callable[[Path], Server]]]:
    servers: list[tuple[str, Callable[[Path], Server]]] = []
    if peer:
        servers += [
            ("peer", lambda folder: PostfixDovecot(folder, accounts, "sdbox")),
            ("peer", lambda folder: PostfixDovecot(folder, accounts, "maildir")),
        ]
    servers.append(("pillarbox", lambda folder: PillarboxServer(folder, accounts)))
    return servers


def _print(title: str, rows: list[tuple[str, Row]], better: dict[str, str]) -> None:
    """A table with a ratio to the faster peer for each figure; `better` says "more" or "less"."""
    table = Table(title=title)
    table.add_column("server")
    for name in better:
        table.add_column(name, justify="right")
    table.add_column("notes")
    for _, row in rows:
        table.add_row(
            row.name, *(f"{row.figures[name]:,.2f}" for name in better), "; ".join(row.notes)
        )
    peers = [row for kind, row in rows if kind == "peer"]
    ours = [row for kind, row in rows if kind == "pillarbox"]
    if peers and ours:
        ratios = []
        for name, direction in better.items():
            pick = max if direction == "more" else min
            theirs = pick(row.figures[name] for row in peers)
            mine = ours[0].figures[name]
            ratio = mine / theirs if direction == "more" else theirs / max(mine, 1e-9)
            ratios.append(f"{ratio:.2f} x")
        table.add_row("better than the best peer by", *ratios, "", style="bold")
    console.print(table)


def _machine(peer: str | None) -> None:
    console.print(
        f"{platform.machine()}, {CORES} cores shared with the load, Python {platform.python_version()},"
        f" Linux {platform.release()}, {time.strftime('%Y-%m-%d')}"
    )
    if peer:
        settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
        console.print(f"Postfix: {settings}; Dovecot: performance mode logins, 10 LMTP processes")


@click.group()
def main() -> None:
    """Compare Pillarbox with Postfix + Dovecot on this machine, on loopback."""


_peer_option = click.option("--peer", type=click.Choice([PEER]), help="run this peer too")
_rounds_option = click.option("--rounds", default=3, show_default=True, help="medians of so many")


@main.command()
@_peer_option
@_rounds_option
@click.option("--messages", default=5000, show_default=True)
@click.option("--sessions", default=10, show_default=True)
@click.option("--accounts", default=100, show_default=True)
@click.option("--size", default=4096, show_default=True, help="octets of a message")
def inbound(
    peer: str | None, rounds: int, messages: int, sessions: int, accounts: int, size: int
) -> None:
    """Mail from strangers by SMTP, a message for one account each, counted when IMAP shows it."""
    _machine(peer)
    measured: dict[int, list[Row]] = {}
    servers = _servers(peer, accounts)
    for round_number in range(rounds):
        for index, (kind, make) in enumerate(servers):
            count = messages if kind == "pillarbox" else min(messages, 2000)
            row = _with_server(
                make,
                lambda server, count=count: _inbound_row(  # type: ignore[misc]
                    server, sessions, count, accounts, size
                ),
            )
            measured.setdefault(index, []).append(row)
            console.print(f"round {round_number + 1}: {row.name}: {row.figures}")
    rows = [(servers[index][0], _medians(found)) for index, found in measured.items()]
    _print(
        f"inbound: {size} octets, {sessions} sessions, {accounts} accounts, medians of {rounds}",
        rows,
        {"messages/s": "more", "CPU s per 1,000": "less"},
    )


def _inbound_row(server: Server, sessions: int, messages: int, accounts: int, size: int) -> Row:
    _load(server, sessions, accounts * 2, accounts, size, 2)  # every account exists and is warm
    _settle(server)
    had = _delivered(server, accounts)
    before = _cpu_s(server)
    load = _load(server, sessions, messages, accounts, size, 1)
    answered = time.monotonic()
    while not server.is_quiet():
        time.sleep(0.02)
    seconds = load["seconds"] + time.monotonic() - answered  # until the queue is empty
    _settle(server)
    used = _cpu_s(server) - before
    if isinstance(server, PillarboxServer):
        used = server.stop_and_count() - before  # what it puts off until its end counts too
        server.start_again()
    delivered = _delivered(server, accounts) - had
    row = Row(server.name)
    if delivered != messages:
        row.notes.append(f"only {delivered} of {messages} arrived")
    row.figures = {
        "messages/s": messages / seconds,
        "CPU s per 1,000": used / messages * 1000,
        "load CPU share": load["cpu_s"] / (seconds * CORES),
    }
    if load["cpu_s"] > used:
        row.notes.append(
            f"the load took {load['cpu_s'] / (load['cpu_s'] + used):.0%} of the CPU used"
        )
    return row


def _medians(rows: list[Row]) -> Row:
    figures = {name: median(row.figures[name] for row in rows) for name in rows[0].figures}
    return Row(rows[0].name, figures, sorted({note for row in rows for note in row.notes}))


_FETCHES = {
    "SELECT": "SELECT INBOX",
    "FLAGS": "FETCH 1:* (FLAGS)",
    "ENVELOPE+BODYSTRUCTURE+SIZE+DATE": "FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)",
    "HEADER.FIELDS": "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])",
    "BODY.PEEK[]": "FETCH 1:* (BODY.PEEK[])",
}


@main.command()
@_peer_option
@_rounds_option
@click.option("--messages", default=10_000, show_default=True)
def fetch(peer: str | None, rounds: int, messages: int) -> None:
    """FETCH of a whole mailbox by one client: milliseconds, the best of several, caches warm."""
    _machine(peer)
    rows = [
        (kind, _with_server(make, lambda server: _fetch_row(server, messages, rounds)))
        for kind, make in _servers(peer, 1)
    ]
    _print(
        f"fetch: {messages} messages of 4 KiB, milliseconds", rows, dict.fromkeys(_FETCHES, "less")
    )


def _fetch_row(server: Server, messages: int, rounds: int) -> Row:
    client = Imap(server.imap, f"user0@{DOMAIN}")
    client.fill(messages, 4096)
    _settle(server)
    client.command("SELECT INBOX")
    row = Row(server.name)
    for name, command in _FETCHES.items():
        before = _cpu_s(server)
        row.figures[name] = min(client.command(command) for _ in range(rounds + 1)) * 1000
        row.notes.append(f"{name}: {(_cpu_s(server) - before) / (rounds + 1) * 1000:.0f} ms CPU")
    client.close()
    return row


@main.command()
@_peer_option
@_rounds_option
@click.option("--messages", default=10_000, show_default=True)
def pop3(peer: str | None, rounds: int, messages: int) -> None:
    """RETR of a whole maildrop by one client, one at a time and ten ahead: messages/s."""
    _machine(peer)
    rows = [
        (kind, _with_server(make, lambda server: _pop3_row(server, messages, rounds)))
        for kind, make in _servers(peer, 1)
    ]
    _print(
        f"pop3: RETR of {messages} messages of 4 KiB",
        rows,
        {"one at a time/s": "more", "pipelined/s": "more", "CPU ms per 1,000": "less"},
    )


def _pop3_row(server: Server, messages: int, rounds: int) -> Row:
    client = Imap(server.imap, f"user0@{DOMAIN}")
    client.fill(messages, 4096)
    client.close()
    _settle(server)
    row = Row(server.name)
    before = _cpu_s(server)
    runs = 0
    for name, window in (("one at a time/s", 1), ("pipelined/s", 10)):
        best = 0.0
        for _ in range(rounds + 1):
            session = Pop3(server.pop3, f"user0@{DOMAIN}")
            best = max(best, messages / session.retrieve_all(messages, window=window))
            session.send(b"QUIT\r\n")
            session.line()
            session.close()
            runs += 1
        row.figures[name] = best
    row.figures["CPU ms per 1,000"] = (_cpu_s(server) - before) / (runs * messages) * 1e6
    return row


if __name__ == "__main__":
    main()

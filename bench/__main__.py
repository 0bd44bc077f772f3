"""`python -m bench inbound|fetch|imap|pop3|relay [--peer postfix-dovecot]`: see the package."""

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from bench.imap import ACCOUNTS, ROWS, measure
from bench.load import DOMAIN
from bench.mailbox import Imap, Pop3
from bench.peer import SETTINGS, PostfixDovecot
from bench.pillarbox_server import PillarboxServer
from bench.process import machine_cpu_s
from bench.relay import WARM_UP, relay_mail, sink

Server = PillarboxServer | PostfixDovecot
R = TypeVar("R")

PEER = "postfix-dovecot"
CORES = os.cpu_count() or 1

FOLDER = Path(__file__).with_name(".peer")
"""Where the servers keep their mail: on the disk of the checkout, since /tmp may be memory."""

RESULTS = Path(__file__).with_name("RESULTS.md")

PEER_SETTINGS = (
    "Postfix: "
    + ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    + "; Dovecot: logins in performance mode, 10 LMTP processes"
)

_RESULTS_HEAD = f"""# Results

Made by `python -m bench ... --save`, never by hand. Each section is one run on one machine, both servers
in turn, driven by the same load; CPU is that of the servers alone, counted until their background work is done.
"Of the machine": all that the machine did in that time for anybody, the load taken off: the kernel's threads count too.

{PEER_SETTINGS}.
"""

console = Console(width=140)


@dataclass(slots=True)
class Row:
    """What one server did in one row."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _with_server(make: Callable[[Path], Server], use: Callable[[Server], R]) -> R:
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
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
    servers.append(
        ("pillarbox", lambda folder: PillarboxServer(folder, accounts, workers=_workers()))
    )
    return servers


def _report(title: str, rows: list[tuple[str, Row]], better: dict[str, str], *, save: bool) -> None:
    """A table with a ratio to the best peer for each figure, of the first row of ours; `better` says "more" or "less",
    or "" for no ratio. With `save`, it is put into RESULTS.md too, in place of the table of the same title."""
    lines = [[row.name, *(f"{row.figures[name]:,.2f}" for name in better)] for _, row in rows]
    peers = [row for kind, row in rows if kind == "peer"]
    ours = [row for kind, row in rows if kind == "pillarbox"]
    if peers and ours:
        ratios = ["better than the best peer by"]
        for name, direction in better.items():
            if not direction:
                ratios.append("")
                continue
            pick = max if direction == "more" else min
            theirs = pick(row.figures[name] for row in peers)
            mine = ours[0].figures[name]
            ratio = mine / theirs if direction == "more" else theirs / max(mine, 1e-9)
            ratios.append(f"{ratio:.2f} x")
        lines.append(ratios)
    _show(title, ["server", *better], lines, [row for _, row in rows], save=save)


def _show(
    title: str, head: list[str], lines: list[list[str]], rows: list[Row], *, save: bool
) -> None:
    table = Table(head[0], title=title)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    notes = [f"{row.name}: {note}" for row in rows for note in row.notes]
    for note in notes:
        console.print(note)
    if save:
        _save(title, head, lines, notes)


def _save(title: str, head: list[str], lines: list[list[str]], notes: list[str]) -> None:
    old = RESULTS.read_text("utf-8") if RESULTS.exists() else f"{_RESULTS_HEAD}\n"
    sections = re.split(r"(?m)^(?=## )", old)
    table = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in table)
    text = f"## {title}\n\n{_machine_line()}\n\n{rows}\n\n" + "".join(
        f"- {note}\n" for note in notes
    )
    kept = [section for section in sections if not section.startswith(f"## {title}\n")]
    RESULTS.write_text("".join(kept).rstrip() + "\n\n" + text.rstrip() + "\n", "utf-8")


def _machine_line() -> str:
    return (
        f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, {CORES} cores shared with the load,"
        f" Python {platform.python_version()}, Linux {platform.release()}"
    )


def _introduce(peer: str | None) -> None:
    console.print(_machine_line())
    if peer:
        console.print(PEER_SETTINGS)


@click.group()
@click.option("--workers", default=1, help="processes of Pillarbox; 0: one for each core")
def main(workers: int) -> None:
    """Compare Pillarbox with Postfix + Dovecot on this machine, on loopback."""
    wait_for_turn()


def wait_for_turn() -> None:
    """Two runs at once would use the same ports, and measure each other. Held until this process ends."""
    descriptor = os.open(
        Path(tempfile.gettempdir()) / "pillarbox-bench.lock", os.O_RDWR | os.O_CREAT, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        console.print("another benchmark runs on this machine: waiting for its end")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _workers() -> int:
    workers: int = click.get_current_context().find_root().params["workers"]
    return workers


_peer_option = click.option("--peer", type=click.Choice([PEER]), help="run this peer too")
_save_option = click.option("--save", is_flag=True, help="put the table into bench/RESULTS.md")
_rounds_option = click.option(
    "--rounds", default=3, show_default=True, help="how often each server has its turn"
)


@main.command()
@_peer_option
@_rounds_option
@_save_option
@click.option("--messages", default=5000, show_default=True)
@click.option("--sessions", default=10, show_default=True)
@click.option("--accounts", default=100, show_default=True)
@click.option("--size", default=4096, show_default=True, help="octets of a message")
def inbound(
    peer: str | None,
    rounds: int,
    save: bool,
    messages: int,
    sessions: int,
    accounts: int,
    size: int,
) -> None:
    """Mail from strangers by SMTP, a message for one account each, counted when IMAP shows it."""
    _introduce(peer)
    measured: dict[int, list[Row]] = {}
    servers = _servers(peer, accounts)
    with sink(1):  # a DNS server that answers: Pillarbox asks whether the sender's domain exists
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
    _report(
        f"inbound: {size} octets, {sessions} sessions, {accounts} accounts, medians of {rounds}",
        rows,
        {"messages/s": "more", "CPU s per 1,000": "less", "of the machine": "less"},
        save=save,
    )


def _inbound_row(server: Server, sessions: int, messages: int, accounts: int, size: int) -> Row:
    _settle(server)  # all workers are there
    _load(server, sessions, accounts * 2, accounts, size, 2)  # every account exists and is warm
    _settle(server)
    had = _delivered(server, accounts)
    before, machine_before = _cpu_s(server), machine_cpu_s()
    load = _load(server, sessions, messages, accounts, size, 1)
    answered = time.monotonic()
    while not server.is_quiet():
        time.sleep(0.02)
    seconds = load["seconds"] + time.monotonic() - answered  # until the queue is empty
    _settle(server)
    used = _cpu_s(server) - before
    if isinstance(server, PillarboxServer):
        used = server.stop_and_count() - before  # what it puts off until its end counts too
    machine = machine_cpu_s() - machine_before - load["cpu_s"]
    if isinstance(server, PillarboxServer):
        server.start_again()
    delivered = _delivered(server, accounts) - had
    row = Row(server.name)
    if delivered != messages:
        row.notes.append(f"only {delivered} of {messages} arrived")
    row.figures = {
        "messages/s": messages / seconds,
        "CPU s per 1,000": used / messages * 1000,
        "of the machine": machine / messages * 1000,
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
@_save_option
@click.option("--messages", default=10_000, show_default=True)
def fetch(peer: str | None, rounds: int, save: bool, messages: int) -> None:
    """FETCH of a whole mailbox by one client: milliseconds, the best of all rounds, caches warm."""
    _introduce(peer)
    rows = _in_turns(peer, rounds, lambda server: _fetch_row(server, messages), min)
    _report(
        f"fetch: {messages} messages of 4 KiB, milliseconds",
        rows,
        dict.fromkeys(_FETCHES, "less"),
        save=save,
    )


def _in_turns(
    peer: str | None,
    rounds: int,
    measure: Callable[[Server], Row],
    best: Callable[[Iterable[float]], float],
) -> list[tuple[str, Row]]:
    """Each server in each round, so that a machine whose speed changes is fair to all; the best of each figure."""
    servers = _servers(peer, 1)
    measured: dict[int, list[Row]] = {}
    for _ in range(rounds):
        for index, (_kind, make) in enumerate(servers):
            measured.setdefault(index, []).append(_with_server(make, measure))
    rows = []
    for index, found in measured.items():
        figures = {
            name: (min if name.startswith("CPU") else best)(row.figures[name] for row in found)
            for name in found[0].figures
        }
        rows.append((servers[index][0], Row(found[0].name, figures)))
    return rows


def _fetch_row(server: Server, messages: int) -> Row:
    client = Imap(server.imap, f"user0@{DOMAIN}")
    client.fill(messages, 4096)
    _settle(server)
    client.command("SELECT INBOX")
    row = Row(server.name)
    for name, command in _FETCHES.items():
        row.figures[name] = min(client.command(command) for _ in range(3)) * 1000
    client.close()
    return row


@main.command()
@click.option("--peer", type=click.Choice(["dovecot"]), help="run this peer too, in both formats")
@_rounds_option
@_save_option
@click.option("--messages", default=10_000, show_default=True)
def imap(peer: str | None, rounds: int, save: bool, messages: int) -> None:
    """What IMAP clients wait for, on one large mailbox and many small ones. Needs root: it drops the page cache."""
    _introduce(peer)
    servers = _servers(peer, ACCOUNTS)
    measured: dict[int, list[Row]] = {}
    for _ in range(rounds):
        for index, (_kind, make) in enumerate(servers):
            row = _with_server(make, lambda server: _imap_row(server, messages))
            measured.setdefault(index, []).append(row)
            console.print(f"{row.name}: {row.figures} {row.notes}")
    rows = [_medians(found) for found in measured.values()]
    peers, ours = rows[:-1], rows[-1]
    lines = []
    for name, bar in ROWS.items():
        mine = ours.figures[name]
        line = [name, *(f"{row.figures[name]:,.2f}" for row in rows)]
        if peers:
            pick = max if bar.more_is_better else min
            best = pick(row.figures[name] for row in peers)
            ratio = mine / best if bar.more_is_better else best / max(mine, 1e-3)
            line += [f"{ratio:.2f} x", "met" if bar.is_met(mine, best) else "missed"]
        lines.append(line)
    _show(
        f"imap: {messages} messages of 4 KiB, milliseconds or as said, medians of {rounds}",
        ["row", *(row.name for row in rows), *(["better by", "bar"] if peers else [])],
        lines,
        [ours],
        save=save,
    )


def _imap_row(server: Server, messages: int) -> Row:
    figures, notes = measure(server, messages, _settle, _cpu_s)
    return Row(server.name, figures, notes)


@main.command()
@_peer_option
@_rounds_option
@_save_option
@click.option("--messages", default=10_000, show_default=True)
def pop3(peer: str | None, rounds: int, save: bool, messages: int) -> None:
    """RETR of a whole maildrop by one client, one at a time and ten ahead: the best of all rounds."""
    _introduce(peer)
    rows = _in_turns(peer, rounds, lambda server: _pop3_row(server, messages), max)
    _report(
        f"pop3: RETR of {messages} messages of 4 KiB",
        rows,
        {"one at a time/s": "more", "pipelined/s": "more", "CPU ms per 1,000": "less"},
        save=save,
    )


def _pop3_row(server: Server, messages: int) -> Row:
    client = Imap(server.imap, f"user0@{DOMAIN}")
    client.fill(messages, 4096)
    client.close()
    _settle(server)
    row = Row(server.name)
    before = _cpu_s(server)
    runs = 0
    for name, window in (("one at a time/s", 1), ("pipelined/s", 10)):
        best = 0.0
        for _ in range(2):
            session = Pop3(server.pop3, f"user0@{DOMAIN}")
            best = max(best, messages / session.retrieve_all(messages, window=window))
            session.send(b"QUIT\r\n")
            session.line()
            session.close()
            runs += 1
        row.figures[name] = best
    row.figures["CPU ms per 1,000"] = (_cpu_s(server) - before) / (runs * messages) * 1e6
    return row


@main.command()
@_peer_option
@_rounds_option
@_save_option
@click.option("--messages", default=10_000, show_default=True)
@click.option("--domains", default=50, show_default=True)
@click.option("--dkim/--no-dkim", default=True, show_default=True, help="one more row: signed")
def relay(
    peer: str | None, rounds: int, save: bool, messages: int, domains: int, dkim: bool
) -> None:
    """Mail of a user to many domains, through the durable queue to a sink, until the queue is empty."""
    _introduce(peer)
    servers: list[tuple[str, Callable[[Path], Server]]] = []
    if peer:
        servers.append(("peer", lambda folder: PostfixDovecot(folder, 1, "sdbox", domains)))
    servers.append(
        (
            "pillarbox",
            lambda folder: PillarboxServer(folder, 1, workers=_workers(), trusts_load=True),
        )
    )
    if dkim:
        servers.append(
            (
                "pillarbox",
                lambda folder: PillarboxServer(
                    folder, 1, workers=_workers(), trusts_load=True, dkim=True
                ),
            )
        )
    measured: dict[int, list[Row]] = {}
    for _ in range(rounds):
        for index, (_kind, make) in enumerate(servers):
            row = _with_server(make, lambda server: _relay_row(server, messages, domains))
            measured.setdefault(index, []).append(row)
            console.print(f"{row.name}: {row.figures} {row.notes}")
    rows = [(servers[index][0], _medians(found)) for index, found in measured.items()]
    _report(
        f"relay: {messages} messages of 4 KiB to {domains} domains, 10 sessions, medians of {rounds}",
        rows,
        {
            "messages/s": "more",
            "CPU s per 1,000": "less",
            "of the machine": "less",
            "accepted/s": "more",
            "load CPU s per 1,000": "",
            "sink CPU s per 1,000": "",
        },
        save=save,
    )


def _relay_row(server: Server, messages: int, domains: int) -> Row:
    row = Row(server.name.replace(" + Dovecot (sdbox)", ""))
    relay_mail(
        server, WARM_UP, domains, lambda: _cpu_s(server)
    )  # processes are forked, caches warm
    _settle(server)
    machine_before = machine_cpu_s()
    run = relay_mail(server, messages, domains, lambda: _cpu_s(server))
    used = run.cpu_s
    if isinstance(server, PillarboxServer):
        used += (
            server.stop_and_count() - run.cpu_at_end_s
        )  # what it puts off until its end counts too
    machine = machine_cpu_s() - machine_before - run.load_cpu_s - run.sink_cpu_s
    if isinstance(server, PillarboxServer):
        server.start_again()
    each = 1000 / messages
    row.figures = {
        "messages/s": messages / run.seconds,
        "CPU s per 1,000": used * each,
        "of the machine": machine * each,
        "accepted/s": messages / run.accepted_s,
        "load CPU s per 1,000": run.load_cpu_s * each,
        "sink CPU s per 1,000": run.sink_cpu_s * each,
    }
    if run.arrived != messages:
        row.notes.append(f"{run.arrived} of {messages} arrived")
    load_s = run.load_cpu_s + run.sink_cpu_s
    if load_s > used:
        row.notes.append(f"load and sink took {load_s / (load_s + used):.0%} of the CPU used")
    return row


if __name__ == "__main__":
    main()

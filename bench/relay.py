"""Mail through a queue: the load submits it, the sink of many domains takes it, both outside of the server."""

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO

from bench.peer import SINK_DNS_PORT, SINK_PORT, PostfixDovecot
from bench.pillarbox_server import PillarboxServer
from bench.process import machine_cpu_s
from bench.report import LESS, MORE, Bar, Row, report
from bench.running import Make, Server, cpu_s, in_turns, new_row, settle

SESSIONS = 10
SIZE_OCTETS = 4096
WARM_UP = 500
"""Messages before those that count."""
LONGEST_START_S = 60.0
LONGEST_S = 300.0
"""A run that takes longer is broken off."""


@dataclass(slots=True)
class Run:
    """What one run took, logins not counted."""

    seconds: float
    """From the first MAIL until the queue is empty."""
    accepted_s: float
    """Until the last message had its 250."""
    arrived: int
    cpu_s: float
    """Of the server."""
    cpu_at_end_s: float
    """What its processes had used in their whole life."""
    load_cpu_s: float
    sink_cpu_s: float


def run(
    messages: int, domains: int, *, dkim: bool, peer: bool, rounds: int, workers: int, save: bool
) -> None:
    ours = partial(PillarboxServer, accounts=1, workers=workers, trusts_load=True)
    makes: list[Make] = [ours]
    if dkim:
        makes.append(partial(ours, dkim=True))
    if peer:
        makes.insert(
            0,
            partial(PostfixDovecot, accounts=1, mailbox_format="sdbox", relay_domains=domains),
        )
    rows = in_turns(makes, rounds, lambda server: _row(server, messages, domains))
    title = f"relay: {messages} messages of 4 KiB to {domains} domains, {SESSIONS} sessions"
    bars = {
        "messages/s": Bar(4, more_is_better=True),
        "CPU s per 1,000": Bar(3),
        "of the machine, CPU s per 1,000": LESS,
        "accepted/s": MORE,
        "load CPU s per 1,000": LESS,
        "sink CPU s per 1,000": LESS,
    }
    report(f"{title}, medians of {rounds}", rows, bars, save=save)


def _row(server: Server, messages: int, domains: int) -> Row:
    row = new_row(server)
    row.name = row.name.replace(" + Dovecot (sdbox)", "")
    _relay(server, WARM_UP, domains)  # processes are forked, caches warm
    settle(server)
    machine_before = machine_cpu_s()
    ran = _relay(server, messages, domains)
    used = ran.cpu_s
    if isinstance(server, PillarboxServer):
        # What it puts off until its end counts too.
        used += server.stop_and_count() - ran.cpu_at_end_s
    machine = machine_cpu_s() - machine_before - ran.load_cpu_s - ran.sink_cpu_s
    if isinstance(server, PillarboxServer):
        server.start_again()
    each = 1000 / messages
    row.figures = {
        "messages/s": messages / ran.seconds,
        "CPU s per 1,000": used * each,
        "of the machine, CPU s per 1,000": machine * each,
        "accepted/s": messages / ran.accepted_s,
        "load CPU s per 1,000": ran.load_cpu_s * each,
        "sink CPU s per 1,000": ran.sink_cpu_s * each,
    }
    if ran.arrived != messages:
        row.notes.append(f"{ran.arrived} of {messages} arrived")
    load_s = ran.load_cpu_s + ran.sink_cpu_s
    if load_s > used:
        row.notes.append(f"load and sink took {load_s / (load_s + used):.0%} of the CPU used")
    return row


def _relay(server: Server, messages: int, domains: int) -> Run:
    """Submit `messages` to `domains` domains, and wait until they are at the sink and the queue is empty."""
    host, port = server.smtp
    numbers = (SESSIONS, messages, domains, SIZE_OCTETS)
    with (
        sink(domains) as hosts,
        _start("bench.load", "submit", host, port, *numbers) as load,
    ):
        try:
            _, sink_before_s = _ask_sink(hosts)
            before_s = cpu_s(server)
            begin = time.monotonic()
            _say(load, "go")
            if not select.select([_stream(load.stdout)], [], [], LONGEST_S)[0]:
                raise SystemExit(f"after {LONGEST_S:.0f} s, the server has not taken all messages")
            result = json.loads(_line(load))
            arrived, sink_s = _ask_sink(hosts)
            while (
                not server.is_quiet() or arrived < messages
            ) and time.monotonic() < begin + LONGEST_S:
                time.sleep(0.02)
                arrived, sink_s = _ask_sink(hosts)
            seconds = time.monotonic() - begin
            end_s = cpu_s(server)
        finally:
            load.kill()
    return Run(
        seconds,
        result["seconds"],
        arrived,
        end_s - before_s,
        end_s,
        result["cpu_s"],
        sink_s - sink_before_s,
    )


@contextmanager
def sink(domains: int) -> "Iterator[subprocess.Popen[str]]":
    """The hosts of `domains` domains, and the DNS that Pillarbox asks here."""
    with _start("bench.sink", SINK_PORT, SINK_DNS_PORT, domains) as process:
        try:
            yield process
        finally:
            process.kill()


def _start(module: str, *arguments: object) -> "subprocess.Popen[str]":
    """A process that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    is_heard = select.select([_stream(process.stdout)], [], [], LONGEST_START_S)[0]
    if not is_heard or _line(process) != "ready\n":
        process.kill()
        raise SystemExit(f"{module} did not get ready: the server greets nobody, or it failed")
    return process


def _line(process: "subprocess.Popen[str]") -> str:
    return _stream(process.stdout).readline()


def _say(process: "subprocess.Popen[str]", text: str) -> None:
    stdin = _stream(process.stdin)
    stdin.write(f"{text}\n")
    stdin.flush()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _ask_sink(hosts: "subprocess.Popen[str]") -> tuple[int, float]:
    """(messages that arrived, its CPU seconds)"""
    _say(hosts, "?")
    arrived, cpu_s = _line(hosts).split()
    return int(arrived), float(cpu_s)

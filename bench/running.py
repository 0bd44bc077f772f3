"""The servers that are compared, each in its turn, on the disk of the checkout."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from bench.load import DOMAIN
from bench.mailbox import Imap
from bench.peer import PostfixDovecot
from bench.pillarbox_server import PillarboxServer
from bench.report import CORES, Row, console, medians

Server = PillarboxServer | PostfixDovecot
Make = Callable[[Path], Server]
R = TypeVar("R")

FOLDER = Path(__file__).with_name(".peer")
"""Where the servers keep their mail: on the disk of the checkout, since /tmp may be memory."""

FORMATS = ("sdbox", "maildir")
"""Of Dovecot's mailboxes: whichever is better counts."""


def in_turns(makes: Sequence[Make], rounds: int, measure: Callable[[Server], Row]) -> list[Row]:
    """Each server in each round, so that a machine whose speed changes is fair to all; the medians of each."""
    measured: list[list[Row]] = [[] for _ in makes]
    for number in range(rounds):
        for make, found in zip(makes, measured, strict=True):
            row = with_server(make, measure)
            found.append(row)
            figures = {name: round(value, 3) for name, value in row.figures.items()}
            console.print(f"round {number + 1}: {row.name}: {figures} {' '.join(row.notes)}")
    return [medians(found) for found in measured]


def with_server(make: Make, use: Callable[[Server], R]) -> R:
    """Start a server for `use`, stop it, and remove what it kept."""
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


def all_servers(peer: bool, accounts: int, workers: int) -> list[Make]:
    """With `peer`, Postfix + Dovecot in both formats; then ours."""
    makes: list[Make] = []
    if peer:
        makes += [
            partial(PostfixDovecot, accounts=accounts, mailbox_format=name) for name in FORMATS
        ]
    makes.append(partial(PillarboxServer, accounts=accounts, workers=workers))
    return makes


def new_row(server: Server) -> Row:
    """For what it will do."""
    return Row(server.name, is_peer=isinstance(server, PostfixDovecot))


def cpu_s(server: Server) -> float:
    """CPU seconds of its processes so far."""
    return sum(tree.cpu_s() for tree in server.trees())


def run_load(server: Server, module: str, *arguments: object) -> dict[str, float]:
    """A process of its own drives the server; returns what it tells."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise click.ClickException(f"{server.name}: {result.stderr.strip().splitlines()[-1]}")
    told: dict[str, float] = json.loads(result.stdout)
    return told


def seconds_until_quiet(server: Server) -> float:
    """Until its queue is empty."""
    begin = time.monotonic()
    while not server.is_quiet():
        time.sleep(0.02)
    return time.monotonic() - begin


def settle(server: Server) -> None:
    """Until nothing is queued and the server has used no CPU for a second."""
    end = time.monotonic() + 120
    while not server.is_quiet():
        if time.monotonic() > end:
            raise click.ClickException(f"{server.name}: the queue did not become empty")
        time.sleep(0.05)
    before = -1.0
    while (now := cpu_s(server)) - before > 0.02:
        before = now
        time.sleep(1)


def delivered(server: Server, accounts: int) -> int:
    """Messages in all INBOXes."""
    with ThreadPoolExecutor(2 * CORES) as pool:  # a login is a password that is hashed
        return sum(pool.map(partial(_messages, server), range(accounts)))


def _messages(server: Server, number: int) -> int:
    client = Imap(server.imap, f"user{number}@{DOMAIN}")
    try:
        return client.messages()
    finally:
        client.close()


def wait_for_turn() -> None:
    """Two runs at once would use the same ports, and measure each other. Held until this process ends."""
    path = Path(tempfile.gettempdir()) / "pillarbox-bench.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except PermissionError:  # another user's
        descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        console.print("another benchmark runs on this machine: waiting for its end")
        fcntl.flock(descriptor, fcntl.LOCK_EX)

"""pillarbox top"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import click
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
    RenderResult,
)
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pillarbox.app.status import ask
from pillarbox.cli.common import directory_of, duration, one_line
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.cli.status import fault_of
from pillarbox.config.schema import Config
from pillarbox.core.tally import PROTOCOL_OF, PROTOCOLS
from pillarbox.core.words import counted
from pillarbox.store.queue_figures import QueueReader

EVERY_S = 1.0
WIDTH = 100
"""Of a picture that is not for a terminal."""
WIDEST = 10_000


@click.command(
    short_help="A live view of the running server.", epilog="Example: pillarbox top --once"
)
@config_option
@json_option
@click.option("--once", is_flag=True, help="Print one picture and end.")
def top(as_json: bool, once: bool) -> None:
    """A live view of the running server: sessions, mail and commands in a second, the queue, the
    slowest commands of the last five minutes, the workers. Key q or Ctrl-C ends it.

    Without a terminal, and with --json, it prints one picture.
    """
    config = read_config()
    source = _Source(config)
    try:
        if as_json:
            import json

            click.echo(json.dumps(source.look(), indent=2))
        elif once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            width = None if sys.stdout.isatty() else WIDTH
            Console(width=width, highlight=False).print(picture(source.look(), time.time()))
        else:
            _show_live(source)
    finally:
        source.close()


class _Source:
    """What there is to show."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._queue = QueueReader(config.data_path / "queue.db")

    def look(self) -> dict[str, Any]:
        """The status of the server, with the queue and the names of accounts. Raises Refused, Unavailable."""
        report = ask(self._config.data_path)
        report["queue"] = asdict(self._queue.read())
        slow = report["slow_commands"]
        numbers = {command["account_id"] for command in slow} - {None}
        names: dict[int, str] = {}
        if numbers:
            with directory_of(self._config) as directory:
                found = map(directory.account_by_id, numbers)
                names = {account.id: account.address for account in found if account is not None}
        for command in slow:
            command["account"] = names.get(command.pop("account_id"))
        return report

    def close(self) -> None:
        self._queue.close()


def _show_live(source: _Source) -> None:
    console = Console(highlight=False)
    with _keys() as is_end:
        first = picture(source.look(), time.time())
        with Live(first, console=console, screen=True, auto_refresh=False) as live:
            live.refresh()
            while not is_end(EVERY_S):
                live.update(picture(source.look(), time.time()), refresh=True)


@contextmanager
def _keys() -> Iterator[Any]:
    """Of a terminal, one by one and unseen: the function waits so long and says whether q was typed."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    interrupted, interrupting = os.pipe()

    def interrupt(_number: int, _frame: object) -> None:
        os.write(interrupting, b"c")  # where it is raised in a callback, Python only reports it
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGINT, interrupt)

    def is_end(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready = select.select([descriptor, interrupted], [], [], left)[0]
            if interrupted in ready:
                return True
            if ready:
                typed = os.read(descriptor, 1024)
                if not typed or b"q" in typed.lower():
                    return True
        return False

    try:
        with suppress(KeyboardInterrupt):
            yield is_end
    finally:
        signal.signal(signal.SIGINT, handler)
        os.close(interrupted)
        os.close(interrupting)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def picture(report: dict[str, Any], now: float) -> RenderableType:
    """All of it, for a terminal of any width."""
    workers, queue, rates = report["workers"], report["queue"], report["per_second"]
    up = int(now - report["started"])
    serving = sum(worker["serves"] for worker in workers)
    head = Text.assemble(
        ("Pillarbox ", "bold"),
        f"{report['version']}, process {report['pid']}, runs for {duration(up)}, ",
        ("is stopping, " if report["stopping"] else "", "red"),
        (f"{serving} of {len(workers)} workers serve", "" if serving == len(workers) else "red"),
    )
    oldest = f", the oldest {duration(queue['oldest_s'])} old" if queue["messages"] else ""
    queued = (
        f"Queue: {counted(queue['messages'], 'message')}{oldest};"
        f" {counted(queue['active'], 'recipient')} active, {queue['deferred']} deferred,"
        f" {queue['held']} held; waiting for mailboxes here: {queue['local_deliveries']}"
    )
    slow = report["slow_commands"]
    parts = (
        head,
        _Fitting(*_beside(_protocols(workers, rates), _mail(report))),
        queued,
        _Fitting(*(_workers(workers, now, narrow=narrow) for narrow in (False, True))),
        _Fitting(*(_slow(slow, now, narrow=narrow) for narrow in (False, True))),
    )
    lines: list[RenderableType] = []
    for part in parts:
        lines += [part, ""]
    return Group(*lines[:-1])


class _Fitting:
    """The first of some forms for which the terminal is wide enough, else the last."""

    def __init__(self, *forms: RenderableType) -> None:
        self._forms = forms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        *others, last = self._forms
        unlimited = options.update(max_width=WIDEST)  # else nothing is told to be wider
        for form in others:
            if Measurement.get(console, unlimited, form).maximum <= options.max_width:
                yield form
                return
        yield last


def _beside(left: Table, right: Table) -> Iterator[RenderableType]:
    for gap in (6, 2):
        grid = Table.grid(padding=(0, gap, 0, 0))
        grid.add_row(left, right)
        yield grid
    yield Group(left, "", right)


def _table(*columns: str, narrow: bool = False) -> Table:
    """What does not fit is cut, or where it is `narrow`, folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        justify: JustifyMethod = "left" if number == 0 else "right"
        table.add_column(column, justify=justify, no_wrap=not narrow, overflow="fold")
    return table


def _protocols(workers: list[dict[str, Any]], rates: dict[str, float]) -> Table:
    table = _table("protocol", "sessions", "commands/s")
    for protocol in PROTOCOLS:
        sessions = sum(
            worker["connections"][service]
            for worker in workers
            for service, name in PROTOCOL_OF.items()
            if name == protocol
        )
        table.add_row(protocol, str(sessions), f"{rates[f'{protocol}_commands']:.1f}")
    return table


def _mail(report: dict[str, Any]) -> Table:
    rates, totals = report["per_second"], report["totals"]
    table = _table("", "in a second", "in all")
    for what, name in (
        ("messages in", "received"),
        ("messages refused", "refused"),
        ("recipients refused", "recipients_refused"),
        ("recipients elsewhere", "sent"),
        ("connections", "accepted"),
        ("logins", "logins"),
        ("logins that failed", "login_failures"),
    ):
        table.add_row(what, f"{rates[name]:.1f}", f"{totals[name]:,}")
    return table


def _workers(workers: list[dict[str, Any]], now: float, *, narrow: bool) -> Table:
    """Where it is `narrow`, without what SQLite has of the memory."""
    memory = ("MiB",) if narrow else ("memory MiB", "of SQLite")
    heads = ("worker", "process", "CPU %", *memory, "files", "restarts", "runs for")
    table = _table(*heads, narrow=narrow)
    for worker in workers:
        octets = [worker["resident_octets"], worker["sqlite_octets"]]
        table.add_row(
            _state_of(worker),
            str(worker["pid"] or "-"),
            f"{worker['cpu_percent']:.1f}",
            *(str(each >> 20) for each in octets[: len(memory)]),
            str(worker["open_files"]),
            str(worker["restarts"]),
            duration(int(now - worker["started"])) if worker["started"] else "-",
        )
    return table


def _state_of(worker: dict[str, Any]) -> Text:
    """Its number, and what is wrong with it."""
    if fault := fault_of(worker):
        return Text(f"{worker['worker']} {fault}", style="bold red")
    return Text(str(worker["worker"]))


def _slow(commands: list[dict[str, Any]], now: float, *, narrow: bool) -> RenderableType:
    if not commands:
        return "No command but logins took a tenth of a second in the last five minutes."
    table = _table("slow command", "seconds", "ago", "account", narrow=narrow)
    for command in commands:
        table.add_row(
            f"{command['protocol']} {one_line(command['command'])}",
            f"{command['seconds']:.3f}",
            duration(max(0, int(now - command["ended"]))),
            command["account"] or "-",
        )
    return table

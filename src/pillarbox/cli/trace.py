"""pillarbox trace"""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from pillarbox.app.control import short_path
from pillarbox.app.data_folder import ensure_ours
from pillarbox.app.status import ask
from pillarbox.app.watching import Shown, Standing, Wish, watch_name
from pillarbox.cli.common import visible
from pillarbox.cli.options import Hinting, config_option, json_option, read_config
from pillarbox.cli.transcript import Transcripts
from pillarbox.core.errors import Refused, Unavailable
from pillarbox.core.networks import parse_networks
from pillarbox.core.words import counted
from pillarbox.net.tap import CLIENT

SERVICES_OF = {
    "smtp": ["smtp"],
    "lmtp": ["lmtp"],
    "submission": ["submission", "submissions"],
    "submissions": ["submissions"],
    "imap": ["imap", "imaps"],
    "imaps": ["imaps"],
    "pop3": ["pop3", "pop3s"],
    "pop3s": ["pop3s"],
}
"""What each protocol is served by; a service that begins with TLS can be named by itself."""

AGAIN_S = 0.5
"""A worker that ended is looked for as often as this."""
PATIENCE_S = 10.0
"""For a worker to answer, or to come back."""

LINE_OCTETS = 1 << 20

SHORT = 100
"""Characters of what is said, with --short."""

_SIGNS = {"client": "C:", "server": "S:", "": "--"}
_COLOURS = {"client": "cyan", "server": None, "": "yellow"}


def _networks(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> list[str]:
    try:
        parse_networks(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return list(values)


def _option_for(argument: str) -> str:
    if "@" in argument:
        return "--account"
    if argument in SERVICES_OF:
        return "--protocol"
    try:
        parse_networks([argument])
    except ValueError:
        return ""
    return "--address"


@click.command(
    cls=Hinting,
    option_for=_option_for,
    short_help="Look on at the sessions of the server.",
    epilog="Example: pillarbox trace --account alice@example.org --protocol imap --save session.txt",
)
@click.option("--account", metavar="ADDRESS", default="", help="Sessions of this account.")
@click.option(
    "--address",
    metavar="IP",
    multiple=True,
    callback=_networks,
    help="Sessions of clients with this address, or in this network; more than once: of any.",
)
@click.option(
    "--protocol",
    type=click.Choice(list(SERVICES_OF)),
    multiple=True,
    help="Sessions of this protocol; more than once: of any.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write each session that begins now as a transcript: FILE, then FILE-2 and so on.",
    metavar="FILE",
)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after so long; else Ctrl-C does.",
)
@click.option(
    "--short", is_flag=True, help=f"Of what is said in a line, {SHORT} characters at most."
)
@json_option
@config_option
def trace(
    account: str,
    address: list[str],
    protocol: tuple[str, ...],
    save: Path | None,
    seconds: float | None,
    short: bool,
    as_json: bool,
) -> None:
    """Look on at the sessions of the running server, those that are open and those that come: what
    client and server say, as they say it, with the state that the session is in.

    Passwords and all else that belongs to a login are masked, and of messages only the size is shown.
    A session of --account is shown from its beginning once it has logged in, or tried to. Sessions never wait for
    this command: when it is too slow, lines are left out, and it says how many. For what happened
    before, see: pillarbox explain.
    """
    if short and as_json:
        raise click.UsageError("--short or --json, not both")
    config = read_config(as_server=False)  # root may save where the server's user may not
    ensure_ours(config)
    workers = [each["worker"] for each in _ask(config.data_path)["workers"]]
    wish = Wish(account, address, [name for each in protocol for name in SERVICES_OF[each]])
    transcripts = Transcripts(save) if save is not None else None
    format_ = _as_json_line if as_json else partial(format_line, most=SHORT if short else None)
    view = _View(config.data_path, workers, wish, format_, transcripts)
    try:
        asyncio.run(view.run(seconds))
    finally:
        view.finish()


def _ask(folder: Path) -> dict[str, Any]:
    try:
        return ask(folder)
    except Refused as refused:
        raise Refused(f"{refused.text}; {_ADVICE[refused.text.startswith('no ')]}") from refused


_ADVICE = {True: "start it with: pillarbox serve", False: "try sudo"}


@dataclass(slots=True)
class _View:
    """What is shown, until it ends."""

    folder: Path
    workers: list[int]
    wish: Wish
    format: Callable[[Shown], str]
    """"": it is not shown."""
    transcripts: Transcripts | None
    lines: int = 0
    missed: int = 0
    sessions: set[str] = field(default_factory=set)
    _open: int = 0
    _standing: int = 0
    """Workers that have answered."""
    _is_over: bool = False

    async def run(self, seconds: float | None) -> None:
        """Raises Refused, Unavailable."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._watch(worker)) for worker in self.workers]

        def end() -> None:
            self._is_over = True
            for task in tasks:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        timer = loop.call_later(seconds, end) if seconds is not None else None
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self._is_over:
                raise
        finally:
            if timer is not None:
                timer.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, worker: int) -> None:
        """Worker by number, also when it is started again."""
        since = time.monotonic()
        has_answered = False
        while True:
            if await self._watch_once(worker, has_answered=has_answered):
                has_answered, since = True, time.monotonic()
                self._say(f"worker {worker} has ended, and its sessions with it")
            elif time.monotonic() - since > PATIENCE_S:
                raise Unavailable(f"worker {worker} does not answer; see: pillarbox status")
            try:
                await asyncio.to_thread(ask, self.folder)
            except Refused:
                raise Refused("the server has stopped; start it with: pillarbox serve") from None
            await asyncio.sleep(AGAIN_S)

    async def _watch_once(self, worker: int, *, has_answered: bool) -> bool:
        """Until the worker hangs up; False: it was not there. Raises Refused."""
        try:
            with short_path(self.folder / watch_name(worker)) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_OCTETS)
        except PermissionError as error:
            raise Refused("only root and the server's user may look on: try sudo") from error
        except OSError:
            return False
        try:
            writer.write(msgspec.json.encode(self.wish) + b"\n")
            first = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            if not first:
                return False
            standing = msgspec.json.decode(first, type=Standing)
            if standing.problem:
                raise Refused(standing.problem)
        except (OSError, ValueError, TimeoutError):
            writer.close()
            return False
        except BaseException:
            writer.close()
            raise
        try:
            self._stands(standing, has_answered=has_answered)
            while line := await _read(reader):
                self._show(line)
        finally:
            writer.close()
        return True

    def _stands(self, standing: Standing, *, has_answered: bool) -> None:
        if has_answered:
            self._say(f"worker {standing.worker} is back")
            return
        self._open += standing.sessions
        self._standing += 1
        if self._standing == len(self.workers):
            what = f"{len(self.workers)} workers" if len(self.workers) > 1 else "the server"
            present = "1 session is" if self._open == 1 else f"{self._open} sessions are"
            self._say(f"looking on at {what}; {present} open; Ctrl-C ends")

    def _say(self, text: str) -> None:
        click.echo(f"pillarbox: {text}", err=True)

    def _show(self, octets: bytes) -> None:
        try:
            shown = msgspec.json.decode(octets, type=Shown)
        except msgspec.DecodeError:
            return  # half a line of a worker that was killed
        self.missed += shown.missed
        if shown.session:
            self.sessions.add(shown.session)
        if line := self.format(shown):
            self.lines += not shown.missed
            click.echo(line)
        if self.transcripts is not None:
            for text in self.transcripts.add(shown):
                self._say(text)

    def finish(self) -> None:
        """Say how much there was, and save what is not over."""
        if self.transcripts is not None:
            for text in self.transcripts.close():
                self._say(text)
        if self._standing:
            left_out = f", {self.missed} not shown" if self.missed else ""
            self._say(
                f"{counted(self.lines, 'line')} of {counted(len(self.sessions), 'session')}{left_out}"
            )


async def _read(reader: asyncio.StreamReader) -> bytes:
    """A line, b"" where there is none any more: the worker was killed."""
    try:
        return await reader.readline()
    except (OSError, ValueError):
        return b""


def _as_json_line(shown: Shown) -> str:
    values: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(shown))
    return json.dumps({"missed": shown.missed} if shown.missed else values)


def format_line(
    shown: Shown, *, most: int | None = None, style: Callable[..., str] = click.style
) -> str:
    """For a terminal, which removes the colours where it is none; of what is said, `most` characters. Nothing in it
    moves the cursor. "" for the end of an IMAP command behind a literal, where nothing is said."""
    if shown.missed:
        return style(f"... {counted(shown.missed, 'line')} not shown", fg="yellow")
    if not shown.text and shown.who == CLIENT:
        return ""
    at = f"{datetime.fromtimestamp(shown.at, UTC):%H:%M:%S.%f}"[:-3] + "Z"
    head = f"{at} {shown.session} {shown.service} {shown.client} {shown.account or '-'}"
    tls = " [TLS]" if shown.tls else ""
    text = visible(shown.text)
    if most is not None and len(text) > most:
        text = f"{text[:most]}<{len(text) - most} more>"
    said = f"{_SIGNS.get(shown.who, '--')} {text}"
    colour = _COLOURS.get(shown.who)
    return f"{visible(head)}{tls} ({visible(shown.stage)}) {style(said, fg=colour) if colour else said}"

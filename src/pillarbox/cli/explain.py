"""pillarbox explain"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pillarbox.app.canary import SERIES, read_canary
from pillarbox.cli.common import directory_of, one_line
from pillarbox.cli.explain_words import Moment, Words, moment_as_json, show_time
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.config.schema import Config
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Failure, Refused
from pillarbox.core.words import counted
from pillarbox.store.accounts import account_path
from pillarbox.store.lacking import does_wait, find_lacking
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection
from pillarbox.store.published import query
from pillarbox.trace.events import Accepted, Dropped, Login, place_of
from pillarbox.trace.reader import TraceReader
from pillarbox.trace.story import Story, find_stories
from pillarbox.trace.wanted import Kind, Wanted, parse_wanted

_STYLES = {
    "refused": "red",
    "failed": "red",
    "expired": "red",
    "bounce": "red",
    "login failed": "red",
    "no session": "yellow",
    "deferred": "yellow",
    "accepted": "green",
    "delivered": "green",
    "filed": "green",
}


def _since(_context: click.Context, _option: click.Parameter, value: str | None) -> int:
    """Microseconds since 1970."""
    if value is None:
        return 0
    try:
        return int((time.time() - parse_duration(value)) * 1_000_000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'"{value}" must look like 90m, 2h, 3d, 2026-11-27 or "2026-11-27 14:30" (UTC)'
        ) from None


def _wanted(_context: click.Context, _argument: click.Parameter, value: str) -> Wanted:
    try:
        return parse_wanted(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    short_help="Tell what became of mail, step by step.",
    epilog="Example: pillarbox explain alice@example.org --since 2h",
)
@click.argument("wanted", metavar="WHAT", callback=_wanted)
@click.option(
    "--since", callback=_since, metavar="TIME", help="Like 90m, 2h, 3d, 2026-11-27 (UTC)."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Stories at most, the latest.",
)
@click.option(
    "--canary",
    is_flag=True,
    help="Also what doctor --watch did, else left out under an address, domain or client.",
)
@json_option
@config_option
def explain(wanted: Wanted, since: int, limit: int, canary: bool, as_json: bool) -> None:
    """Tell what became of mail, from the connection on which it came to its deletion.

    WHAT is a queue id (from the log, a reply, or Received), a Message-ID, an address or a domain (of
    a sender or recipient), or the IP address of a client. What was refused is told, too, and why. The
    server may run; what happened in the last second may be missing.
    """
    config = read_config()
    reader = TraceReader(config.data_path)
    click.get_current_context().call_on_close(reader.close)
    account = "" if canary else read_canary(config.data_path).account

    def leave_out(event: Accepted | Login) -> bool:
        if isinstance(event, Login):
            return bool(account) and event.result == "ok" and event.user == account
        return not canary and _is_of_canary(event)

    found = find_stories(reader, wanted, since=since, most=limit, leave_out=leave_out)
    for problem in reader.problems:
        click.echo(f"pillarbox: {problem}; what it has is not told", err=True)
    what = "session" if wanted.kind is Kind.CLIENT else "round trip"
    trips = counted(found.left_out, what) + " of doctor --watch"
    if not found.stories:
        if as_json:
            click.echo("[]")
        if found.left_out:
            raise Refused(f"nothing but {trips} is recorded: see --canary")
        raise Refused(_why_nothing(config, reader, wanted, since))
    _tell_gaps(reader, found.stories[0].at)
    with _account_names(config) as name_of:
        words = Words(name_of, _mailbox_names(config))
        if as_json:
            shown = [_as_json(config, words, story) for story in found.stories]
            click.echo(json.dumps(shown, indent=2))
            return
        for number, story in enumerate(found.stories):
            if number:
                click.echo()
            _show(config, words, story)
    if found.has_more:
        click.echo("\nOlder ones are not shown: see --limit")
    if found.left_out:
        click.echo(f"\nLeft out: {trips}: see --canary")


def _is_of_canary(event: Accepted) -> bool:
    """Whether it is a round trip of `doctor --watch`. Whoever else writes such a Message-ID must have logged in as the
    one that gets the message, or is heard of."""
    if not event.message_id.startswith(f"<{SERIES}-"):
        return False
    return event.user == event.sender and event.recipients == [(event.user, [])]


def _tell_gaps(reader: TraceReader, since: int) -> None:
    gaps = [
        (entry.at, entry.event.count)
        for entry in reader.find(["dropped"], whole=True, since=since)
        if isinstance(entry.event, Dropped)
    ]
    if gaps:
        count = sum(lost for _, lost in gaps)
        click.echo(
            f"pillarbox: not recorded: {counted(count, 'event')}, the last until {show_time(gaps[-1][0])}:"
            " something may be missing here",
            err=True,
        )


def _why_nothing(config: Config, reader: TraceReader, wanted: Wanted, since: int) -> str:
    """One line that says what to do."""
    if not config.explain.enabled:
        return "nothing is recorded: the configuration has [explain] enabled = false"
    if config.data_path.exists() and not os.access(config.data_path, os.R_OK | os.X_OK):
        return f"only root and the server's user may look into {config.data_path}"
    if not reader.paths:
        return f"nothing was recorded yet in {config.data_path}: a server records from its start on"
    shown = wanted.text.lstrip("@") if wanted.kind is Kind.DOMAIN else wanted.text
    when = (
        f"since {show_time(since)[:16]}Z"
        if since
        else f"in {counted(config.explain.keep_days, 'day')}"
    )
    return f"nothing is recorded of {shown} {when}"


@contextmanager
def _account_names(config: Config) -> Iterator[Callable[[int], str]]:
    path: Path = config.data_path / "directory.db"
    if not path.exists():
        yield lambda number: f"account {number}"
        return
    with directory_of(config) as directory:

        @lru_cache(maxsize=1024)
        def name_of(number: int) -> str:
            account = directory.account_by_id(number)
            return account.address if account is not None else f"account {number} (removed)"

        yield name_of


def _mailbox_names(config: Config) -> Callable[[str], str]:
    """By place; as they are called now, for the trace has only numbers where a mailbox is read."""

    @lru_cache(maxsize=64)
    def names_of(account: int) -> dict[str, str] | None:
        """None: they cannot be read."""
        try:
            sql = "SELECT mailbox_id, uidvalidity, name FROM mailboxes"
            with query(account_path(config.data_path / "accounts", account), sql) as (_, rows):
                return {place_of(account, *row[:2]): row[2] for row in rows}
        except Failure:
            return None

    def name_of(place: str) -> str:
        account, mailbox, _ = place.split(".")
        names = names_of(int(account))
        if names is None:
            return f"mailbox {mailbox}"
        return names.get(place, f"mailbox {mailbox} (removed)")

    return name_of


def _waits(config: Config, story: Story) -> list[tuple[str, str]]:
    """What of a message is in the queue now: (recipient, what for)."""
    path = config.data_path / "queue.db"
    if not story.queue_id or not path.exists():
        return []
    queue = OutgoingQueue(path, clock=time.time)
    try:
        rows = queue.selected.rows(Selection(queue_id=story.queue_id))
        return [
            (
                one_line(row.recipient),
                "held" if row.held else f"next try {show_time(row.next_try * 1_000_000)[:19]}Z",
            )
            for row in rows
        ]
    finally:
        queue.close()


def _lacking(config: Config, words: Words, story: Story) -> list[str]:
    """The mail files that lack the message, and take nothing."""
    if story.fate.now or not story.queue_id:
        return []
    try:
        found = find_lacking(config.data_path)
    except OSError:
        return []
    lines = []
    for account, lacking in found.items():
        if story.queue_id not in lacking.queue_ids:
            continue
        if not does_wait(config.data_path, account, lacking, time.time()):
            continue
        address = words.name_of(account)
        may = "waits" if lacking.is_exact else "may wait"
        line = f"it {may} in the journal for the mail file of {address}, which "
        if lacking.is_missing:
            line += "is missing: see pillarbox doctor"
        else:
            line += (
                "takes no mail: see pillarbox doctor; for a damaged one, stop the server, then run:"
                f" pillarbox check --repair {address}"
            )
        lines.append(line)
    return lines


def _as_json(config: Config, words: Words, story: Story) -> dict[str, Any]:
    return {
        "queue_id": story.queue_id,
        "title": words.title(story),
        "events": [moment_as_json(moment) for moment in words.moments(story)],
        "now": [
            *words.whereabouts(story),
            *_lacking(config, words, story),
            *(f"in the queue for {recipient}: {why}" for recipient, why in _waits(config, story)),
        ],
    }


def _show(config: Config, words: Words, story: Story) -> None:
    """A timeline."""
    moments = words.moments(story)
    now = [("now", place) for place in words.whereabouts(story)]
    now += [("now", line) for line in _lacking(config, words, story)]
    now += [("now", f"in the queue for <{each}>, {why}") for each, why in _waits(config, story)]
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        _show_plain(words.title(story), moments, now)
        return
    console.print(Text(words.title(story), style="bold"))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for moment in moments:
        text = Text(moment.text)
        for line in moment.more:
            text.append(f"\n{line}", style="dim")
        table.add_row(show_time(moment.at), Text(moment.what, _STYLES.get(moment.what, "")), text)
    for what, line in now:
        table.add_row("", Text(what, "bold"), line)
    console.print(table)


def _show_plain(title: str, moments: Sequence[Moment], now: Sequence[tuple[str, str]]) -> None:
    width = max([len(moment.what) for moment in moments] + [3])
    lines = [title]
    for moment in moments:
        lines.append(f"  {show_time(moment.at)}  {moment.what:{width}}  {moment.text}")
        lines += [f"{'':28}{'':{width}}  {line}" for line in moment.more]
    lines += [f"{'':28}{what:{width}}  {line}" for what, line in now]
    click.echo("\n".join(lines))

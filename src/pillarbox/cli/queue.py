"""pillarbox queue ..."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, wraps
from itertools import chain, islice
from typing import Any

import click

from pillarbox.cli.common import (
    MOST_STYLED_ROWS,
    Function,
    ensure_terminal,
    one_line,
    show_many,
    show_table,
)
from pillarbox.cli.options import Hinting, config_option, json_option, read_config
from pillarbox.cli.telling import tell_trace
from pillarbox.config.schema import Config
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted
from pillarbox.outbound.translate import Translation, translate
from pillarbox.smtp.reply import Reply
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import AT_ONCE, HELD, OVER_LIMIT, Row, Selection
from pillarbox.trace.events import Removed
from pillarbox.trace.recorder import Recorder

_REPLY = re.compile(r"(\d{3}) ([245]\.\d{1,3}\.\d{1,3})? ?(.*)", re.DOTALL)

_COLUMNS = ("queue_id", "sender", "recipient", "state", "age", "attempts", "next_try", "reply")

SHORT_REPLY = 80
"""Characters of a reply in a list."""

MOST_TOLD = 500
"""Recipients of one event of the trace."""


@contextmanager
def _open_queue() -> Iterator[OutgoingQueue]:
    path = read_config().data_path / "queue.db"
    if not path.exists():
        raise Refused(f"there is no queue yet: {path} is made when the server first runs")
    queue = OutgoingQueue(path, clock=time.time)
    try:
        yield queue
    finally:
        queue.close()


def _age(_context: click.Context, _option: click.Parameter, value: str | None) -> int:
    if value is None:
        return 0
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def selection_options(function: Function) -> Function:
    """--id, --address, --domain and --older-than, as the argument `selection`."""

    @click.option("--id", "queue_id", metavar="QUEUE_ID", default="", help="One message.")
    @click.option("--address", metavar="ADDRESS", default="", help="Of the sender or a recipient.")
    @click.option("--domain", metavar="DOMAIN", default="", help="Of a recipient.")
    @click.option("--older-than", metavar="AGE", callback=_age, help="Like 90m, 4h, 2d.")
    @wraps(function)
    def wrapper(
        *arguments: Any, queue_id: str, address: str, domain: str, older_than: int, **more: Any
    ) -> Any:
        selection = Selection(queue_id, address, domain.lower(), older_than)
        return function(*arguments, selection=selection, **more)

    return wrapper  # type: ignore[return-value]


def _option_for(argument: str) -> str:
    if "@" in argument:
        return "--address"
    return "--domain" if "." in argument else "--id"


@click.group(epilog="Example: pillarbox queue list --domain example.com")
@config_option
def queue() -> None:
    """Mail that is on its way to other hosts."""


@queue.command(
    "list",
    cls=Hinting,
    option_for=_option_for,
    epilog="Example: pillarbox queue list --older-than 4h --json",
)
@selection_options
@json_option
@config_option
def list_(selection: Selection, as_json: bool) -> None:
    """List what waits, a line for each recipient."""
    show_queue(selection, as_json=as_json)


def show_queue(selection: Selection, *, as_json: bool) -> None:
    """What `queue list` prints. Raises Refused, Unavailable."""
    with _open_queue() as opened:
        now = int(time.time())
        rows = (_listed(row, now, as_json) for row in opened.selected.each_row(selection))
        first = list(islice(rows, MOST_STYLED_ROWS + 1))
        if len(first) > MOST_STYLED_ROWS:
            show_many(_COLUMNS, chain(first, rows), as_json=as_json)
        else:
            show_table(_COLUMNS, first, as_json=as_json)


def _listed(row: Row, now: int, as_json: bool) -> tuple[object, ...]:
    age: object = now - row.created
    next_try: object = _next_try(row)
    reply = row.reply
    if not as_json:
        reply = one_line(reply[: SHORT_REPLY + 1])
        age = _duration(now - row.created)
        next_try = "" if row.held else _moment(row.next_try)
        reply = reply[:SHORT_REPLY] + ("..." if len(reply) > SHORT_REPLY else "")
    sender = row.reverse_path or "<>"
    return row.queue_id, sender, row.recipient, _state(row), age, row.attempts, next_try, reply


def _next_try(row: Row) -> int | None:
    """Epoch seconds; None: held mail waits for somebody."""
    return None if row.held else row.next_try


def _state(row: Row) -> str:
    if row.held:
        return {HELD: "held", OVER_LIMIT: "held: over limit"}.get(row.held, "being accepted")
    return "being sent" if row.owner else "waiting"


@lru_cache(maxsize=4096)
def _duration(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"


@lru_cache(maxsize=4096)
def _moment(epoch_s: int) -> str:
    if epoch_s == AT_ONCE:
        return "now"
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@queue.command(
    short_help="Show a message, and what was said of it.",
    epilog="Example: pillarbox queue show 02H35N444BPXZQGY",
)
@click.argument("queue_id")
@json_option
@config_option
def show(queue_id: str, as_json: bool) -> None:
    """Show a message's recipients, what was last said of each, and what to do about it."""
    with _open_queue() as opened:
        rows = opened.selected.rows(Selection(queue_id=queue_id))
    if not rows:
        raise Refused(
            f"the queue has no message {queue_id} (any more); see: pillarbox explain {queue_id}"
        )
    first = rows[0]
    if as_json:
        click.echo(json.dumps(_as_json(rows), indent=2))
        return
    click.echo(f"{queue_id} from <{first.reverse_path}>, {first.size} octets")
    click.echo(f"in the queue since {_moment(first.created)}")
    for row in rows:
        click.echo(f"\nto <{row.recipient}>: {_state(row)}, {counted(row.attempts, 'attempt')}")
        if not row.held:
            click.echo(f"  next try {_moment(row.next_try)}, given up {_moment(row.expires)}")
        if row.reply:
            click.echo(f"  last: {row.host or 'this host'}: {one_line(row.reply)}")
            for line in _advice(row.reply):
                click.echo(f"  {line}")


def _as_json(rows: Sequence[Row]) -> dict[str, object]:
    """Of one message; moments are epoch seconds."""
    first = rows[0]
    recipients = []
    for row in rows:
        meaning = _meaning(row.reply)
        recipients.append(
            {
                "recipient": row.recipient,
                "state": _state(row),
                "attempts": row.attempts,
                "next_try": _next_try(row),
                "given_up": row.expires,
                "host": row.host,
                "reply": row.reply,
                "means": meaning.cause.value if meaning else None,
                "what_to_do": meaning.advice if meaning else None,
            }
        )
    return {
        "queue_id": first.queue_id,
        "sender": first.reverse_path,
        "octets": first.size,
        "created": first.created,
        "recipients": recipients,
    }


@queue.command(
    "unknown-replies",
    short_help="Replies of others that nobody understood.",
    epilog="Example: pillarbox queue unknown-replies --json",
)
@json_option
@config_option
def unknown_replies(as_json: bool) -> None:
    """List what other hosts said that Pillarbox could not explain, and how often.

    Please report frequent ones, so that the next version explains them to your users.
    """
    with _open_queue() as opened:
        found = opened.unknown_replies.all()
    rows = [
        (count, last if as_json else _moment(last), reply if as_json else one_line(reply))
        for reply, count, last in found
    ]
    show_table(("count", "last", "reply"), rows, as_json=as_json)


def _advice(reply: str) -> list[str]:
    found = _meaning(reply)
    return [f"that means: {found.cause.value}", f"what to do: {found.advice}"] if found else []


def _meaning(reply: str) -> Translation | None:
    match = _REPLY.fullmatch(reply)
    return translate(Reply(int(match[1]), match[2] or "", match[3])) if match else None


def _change(
    selection: Selection,
    everything: bool,
    change: Callable[[OutgoingQueue], int],
    done: str,
    why_not: str,
) -> None:
    """`done` is said of so many recipients, `why_not` where mail is meant and nothing is to be done."""
    _ensure_meant(selection, everything)
    with _open_queue() as opened:
        count = change(opened)
        is_empty = not count and not opened.selected.rows(selection, 1)
    if is_empty:
        raise Refused(_there_is_none(selection))
    if not count:
        raise Refused(f"nothing to do: {why_not}")
    click.echo(f"{counted(count, 'recipient')} {done}.")


def _there_is_none(selection: Selection) -> str:
    return "the queue is empty" if selection == Selection() else "the queue has no such mail"


def _ensure_meant(selection: Selection, everything: bool) -> None:
    if selection == Selection() and not everything:
        raise click.UsageError("say which: --id, --address, --domain, --older-than, or --all")


all_option = click.option("--all", "everything", is_flag=True, help="All that waits.")


@queue.command(
    cls=Hinting,
    option_for=_option_for,
    epilog="Example: pillarbox queue retry --domain example.com",
)
@selection_options
@all_option
@config_option
def retry(selection: Selection, everything: bool) -> None:
    """Try again now, without waiting for the schedule."""
    _change(
        selection,
        everything,
        lambda opened: opened.selected.retry(selection),
        "will be tried now",
        "it is being sent, or is held (pillarbox queue release lets it go)",
    )


def retry_all(config: Config) -> None:
    """The same of all that waits, where there is anything, without a word. Raises Unavailable."""
    if (config.data_path / "queue.db").exists():
        with _open_queue() as opened:
            opened.selected.retry(Selection())


@queue.command(
    cls=Hinting,
    option_for=_option_for,
    epilog="Example: pillarbox queue hold --address spammer@example.org",
)
@selection_options
@all_option
@config_option
def hold(selection: Selection, everything: bool) -> None:
    """Keep mail in the queue until it is released."""
    _change(
        selection,
        everything,
        lambda opened: opened.selected.set_held(selection, held=True),
        "held",
        "it is held already",
    )


@queue.command(
    cls=Hinting,
    option_for=_option_for,
    epilog="Example: pillarbox queue release --all",
)
@selection_options
@all_option
@config_option
def release(selection: Selection, everything: bool) -> None:
    """Let held mail go."""
    _change(
        selection,
        everything,
        lambda opened: opened.selected.set_held(selection, held=False),
        "released",
        "it is not held",
    )


@queue.command(
    cls=Hinting,
    option_for=_option_for,
    short_help="Delete mail, without telling its sender.",
    epilog="Example: pillarbox queue remove --id 02H35N444BPXZQGY",
)
@selection_options
@all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(selection: Selection, everything: bool, yes: bool) -> None:
    """Delete mail from the queue, for good and without telling its sender."""
    _ensure_meant(selection, everything)
    if not yes:
        _ask_whether_to_remove(selection)
    removed: list[tuple[str, str, str]] = []

    def work(opened: OutgoingQueue) -> int:
        removed.extend(opened.selected.remove(selection))
        return len(removed)

    _change(selection, everything, work, "removed", "it is removed already")
    _tell_removed(read_config(), removed)


def _ask_whether_to_remove(selection: Selection) -> None:
    with _open_queue() as opened:
        count = sum(1 for _ in opened.selected.each_row(selection))
    if not count:
        raise Refused(_there_is_none(selection))
    ensure_terminal("whether you mean it", "--yes")
    what = counted(count, "recipient")
    click.confirm(f"Delete mail for {what} without telling who sent it?", abort=True, err=True)


def _tell_removed(config: Config, removed: Iterable[tuple[str, str, str]]) -> None:
    """To the trace, in the file of commands. That it cannot be told is said, and changes nothing."""
    if not config.explain.enabled:
        return
    recipients: dict[tuple[str, str], list[str]] = {}
    for queue_id, sender, recipient in removed:
        recipients.setdefault((queue_id, sender), []).append(recipient)
    recorder = Recorder(is_on=True)
    for (queue_id, sender), names in recipients.items():
        for start in range(0, len(names), MOST_TOLD):
            recorder.add(Removed(queue_id, sender, names[start : start + MOST_TOLD]))
    tell_trace(config, recorder)

"""What the commands share: passwords, the directory, tables."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from pillarbox.auth.passwords import SHORTEST_PASSWORD, check_new_password
from pillarbox.cli.options import read_config
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Directory

Function = TypeVar("Function", bound=Callable[..., Any])

MOST_STYLED_ROWS = 200
"""Longer lists are plain lines: styling takes more than a millisecond for each."""
LINES_AT_ONCE = 1000
LEAST_OF_LAST = 24
"""Characters for which a last column is worth wrapping."""


def password_option(function: Function) -> Function:
    """--password-stdin, the argument `password_stdin`."""
    return click.option(
        "--password-stdin", is_flag=True, help="Read the password from the first line of stdin."
    )(function)


@contextmanager
def open_directory() -> Iterator[Directory]:
    """The directory of the configured server, whether it runs or not. Raises Refused, Unavailable."""
    with directory_of(read_config()) as directory:
        yield directory


@contextmanager
def directory_of(config: Config) -> Iterator[Directory]:
    """The directory of a server, made if there is none. Raises Unavailable."""
    os.umask(0o077)
    _make_data_folder(config)
    directory = Directory(config.data_path / "directory.db", clock=time.time)
    try:
        yield directory
    finally:
        directory.close()


def _make_data_folder(config: Config) -> None:
    """As `serve` does: root makes it for the server's user, who may not be allowed to. Raises Refused."""
    folder = config.data_path
    try:
        if config.user and os.getuid() == 0 and os.geteuid() != 0 and not folder.exists():
            from pillarbox.app import rights

            rights.make_folder_as_root(folder, config.user)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(f"data_dir: {folder} cannot be made or used: {error.strerror}") from error


@contextmanager
def show_octets(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where that is a terminal: the function is told (octets done, all of them)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def ask_new_password(from_stdin: bool, options: str = "--password-stdin") -> Secret:
    """From a prompt, asked twice, and again while it cannot be set, or from the first line of stdin. `options` are
    those that make the question needless. Raises Refused when that cannot be set."""
    if from_stdin:
        password = _first_line()
        check_new_password(password)
        return password
    ensure_terminal("for the password", options)
    while True:
        password = _prompt_password(f"Password (at least {SHORTEST_PASSWORD} characters)")
        try:
            check_new_password(password)
        except Refused as refused:
            click.echo(f"Error: {refused.text}.", err=True)
            continue
        if _prompt_password("Repeat for confirmation").reveal() == password.reveal():
            return password
        click.echo("Error: The two entered values do not match.", err=True)


def ask_password(from_stdin: bool) -> Secret:
    """From a prompt, or from the first line of stdin. Raises Refused."""
    if from_stdin:
        return _first_line()
    ensure_terminal("for the password", "--password-stdin")
    return _prompt_password("Password")


def _first_line() -> Secret:
    line = sys.stdin.readline()
    if not line:
        raise Refused("there is no password: standard input was empty")
    return Secret(line.rstrip("\r\n"))


def _prompt_password(text: str) -> Secret:
    return Secret(click.prompt(text, hide_input=True, err=True))


def ensure_terminal(for_what: str, option: str) -> None:
    """Raises Refused, with the option that makes the question needless, where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Refused(f"there is no terminal to ask {for_what}; use {option}")


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    as_json: bool,
    keep_names: bool = False,
) -> None:
    """Rows for people, or as a JSON list of objects whose keys are the column names. On a terminal, only the last
    column is wrapped; where the others leave no room for it, each row is lines of `name: value`. `keep_names`: heads
    are the names as they are, also for people."""
    console = Console(highlight=False, markup=False)
    if as_json or not console.is_terminal or not rows or len(rows) > MOST_STYLED_ROWS:
        show_many(columns, rows, as_json=as_json, keep_names=keep_names)  # a row is one line
        return
    heads = _heads(columns, keep_names)
    cells = [[_shown(value) for value in row] for row in rows]
    *others, last = (max(map(cell_len, column)) for column in zip(heads, *cells, strict=True))
    if console.width - sum(others) - 2 * len(others) < min(last, LEAST_OF_LAST):
        _show_records(console, heads, cells)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, overflow="fold", no_wrap=number < len(others))
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _show_records(console: Console, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """What is empty is left out."""
    width = max(map(cell_len, heads)) + 1
    for number, row in enumerate(cells):
        if number:
            console.print()
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=width, style="bold", overflow="fold")
        grid.add_column(overflow="fold")
        for head, cell in zip(heads, row, strict=True):
            if cell:
                grid.add_row(f"{head}:", cell)
        console.print(grid)


def show_many(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    as_json: bool,
    keep_names: bool = False,
) -> None:
    """The same for any number of rows, as they come: 100,000 take a second. Columns are as wide as the first rows need,
    and grow with later ones."""
    lines = (
        _json_lines(columns, rows) if as_json else _plain_lines(_heads(columns, keep_names), rows)
    )
    while some := "\n".join(islice(lines, LINES_AT_ONCE)):
        click.echo(some)


def duration(seconds: float) -> str:
    """For people: the two largest units."""
    minutes = max(0, int(seconds)) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{max(0, int(seconds))} s"


def one_line(text: str) -> str:
    """What a stranger wrote, with nothing in it that moves the cursor."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def visible(text: str) -> str:
    """What a stranger wrote, with all that a terminal would act on, or that nobody sees, in the words of a programmer.
    Example: "a\x1b[2J" -> "a\\x1b[2J"."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _json_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    encode = json.JSONEncoder(ensure_ascii=False).encode
    last = "["
    for row in rows:
        yield last
        last = f"  {encode(dict(zip(columns, row, strict=True)))},"
    if last == "[":
        yield "[]"
        return
    yield last.removesuffix(",")
    yield "]"


def _heads(columns: Sequence[str], keep_names: bool) -> list[str]:
    return list(columns) if keep_names else [column.replace("_", " ") for column in columns]


def _plain_lines(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    widths = [0] * len(head)
    remaining = iter(rows)
    some = [head, *islice(remaining, LINES_AT_ONCE)]
    while some:
        shown = [
            [value if value.__class__ is str else _shown(value) for value in row] for row in some
        ]
        widths = [
            max(width, *map(len, cells))
            for width, cells in zip(widths, zip(*shown, strict=True), strict=True)
        ]
        layout = "  ".join(f"%-{width}s" for width in widths)
        for cells in shown:
            yield (layout % tuple(cells)).rstrip()
        some = list(islice(remaining, LINES_AT_ONCE))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)

"""pillarbox sql"""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import click

from pillarbox.cli.common import MOST_STYLED_ROWS, one_line, open_directory, show_many, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.errors import Refused
from pillarbox.store import made
from pillarbox.store.accounts import account_path
from pillarbox.store.damage import how_to_mend
from pillarbox.store.published import query


@click.command(
    epilog="Example: pillarbox sql alice@example.org "
    '"SELECT mailbox, count(*) FROM messages GROUP BY mailbox"'
)
@click.argument("account")
@click.argument("statement", metavar="SELECT")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@config_option
def sql(account: str, statement: str, as_json: bool, as_csv: bool) -> None:
    """Ask an account's mail a question, in SQL.

    The views mailboxes, messages, headers and history keep their columns: docs/schema.md lists
    them. Nothing can be changed. The server may run; mail may come here a second after it came.
    """
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    with open_directory() as directory:
        known = directory.known_account(account)
    path = account_path(read_config().data_path / "accounts", known.id)
    if not path.exists():
        made.ensure_not_all_missing(read_config().data_path)
        if made.is_missing(path):
            raise Refused(
                f"the mail file of {known.address} is missing: {how_to_mend(known.address)}"
            )
        raise Refused(f"{known.address} has had no mail yet")
    with query(path, statement) as (columns, found):
        is_for_people = not (as_json or as_csv)
        rows = (tuple(_plain(value, is_for_people) for value in row) for row in found)
        if as_csv:
            _show_csv(columns, rows)
            return
        first = list(islice(rows, MOST_STYLED_ROWS + 1))
        if len(first) > MOST_STYLED_ROWS:
            show_many(columns, chain(first, rows), as_json=as_json, keep_names=True)
        else:
            show_table(columns, first, as_json=as_json, keep_names=True)


def _plain(value: Any, is_for_people: bool) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return one_line(value) if is_for_people and isinstance(value, str) else value


def _show_csv(columns: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
    lines: Iterator[Iterable[Any]] = chain([columns], rows)
    while some := list(islice(lines, 1000)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(some)
        sys.stdout.write(text.getvalue())

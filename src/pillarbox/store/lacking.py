"""Mail that was acknowledged and that account files still lack, and files that cannot be used: what another program
than the server sees of that, for `doctor` and `explain`. Changes nothing.

A message is put into its file about a second after it was taken (`intake`). One that is older and only in the journal
waits for a file that takes nothing: mostly a damaged one, which `check --repair` makes anew.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from pillarbox.store import database, journal, made
from pillarbox.store.accounts import account_path, lock_path
from pillarbox.store.intake import queue_id_of

LATE_S = 10
"""Mail that waits for longer does not come by itself."""


@dataclass(slots=True)
class Lacking:
    """What one account's file lacks."""

    queue_ids: list[str] = field(default_factory=list)
    """One for each message; "" of what did not come by a delivery."""
    oldest: int = 0
    """When the first of them was taken, in epoch seconds."""
    is_exact: bool = True
    """False: the file does not say what it has, so some of these may be in it."""


def find_lacking(data_dir: Path) -> dict[int, Lacking]:
    """By account, what is in the journals only. Blocks: reads all of them. Raises OSError."""
    taken: dict[int, dict[int, dict[int, tuple[int, str]]]] = {}
    for path in journal.segments(data_dir / "journal"):
        try:
            records = journal.named_by(path).taken
        except FileNotFoundError:  # all of it is in its files by now
            continue
        for account, own in records.items():
            runs = taken.setdefault(account, {})
            for record in own:
                row = (record.savedate, queue_id_of(record))
                runs.setdefault(record.run, {})[record.modseq] = row
    found = {}
    for account, runs in taken.items():
        path = account_path(data_dir / "accounts", account)
        if path.exists() and (lacking := _compare(path, account, runs)).queue_ids:
            found[account] = lacking
    return found


def _compare(path: Path, account: int, runs: dict[int, dict[int, tuple[int, str]]]) -> Lacking:
    """`runs`: by sequence, when it was taken and its queue id."""
    lacking = Lacking()
    try:
        connection = database.open_to_read(path)
        try:
            sql = "SELECT run, max(sequence) FROM taken WHERE account = ? GROUP BY run"
            put: dict[int, int] = dict(connection.execute(sql, (account,)))
        finally:
            connection.close()
    except apsw.Error:
        put, lacking.is_exact = {}, False
    dates = []
    for run, rows in runs.items():
        for sequence, (date, queue_id) in sorted(rows.items()):
            if sequence > put.get(run, 0):
                lacking.queue_ids.append(queue_id)
                dates.append(date)
    lacking.oldest = min(dates, default=0)
    return lacking


def find_missing(data_dir: Path, accounts: Iterable[int]) -> set[int]:
    """Those whose file is not there, though it was made or the journals have mail for it. Blocks as `find_lacking`.
    Raises OSError."""
    folder = data_dir / "accounts"
    missing = {account for account in accounts if not account_path(folder, account).exists()}
    named = {each for each in missing if made.is_missing(account_path(folder, each))}
    for path in journal.segments(data_dir / "journal") if missing - named else ():
        with suppress(FileNotFoundError):  # all of it is in its files by now
            named |= journal.named_by(path).accounts
    # One that was new then, and got its first mail meanwhile, has its file now.
    return {each for each in missing & named if not account_path(folder, each).exists()}


def find_unusable(data_dir: Path, accounts: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Those whose file cannot be opened, and why: "" for damage. Damage further inside is not looked for."""
    for account in accounts:
        path = account_path(data_dir / "accounts", account)
        try:
            if path.exists():
                connection = database.open_to_read(path)
                try:
                    connection.execute("SELECT modseq FROM account_state").fetchall()
                finally:
                    connection.close()
            if why := database.why_no_file(lock_path(path)):
                yield account, why
        except apsw.Error as error:
            yield (
                account,
                "" if database.is_damage(error) else database.unavailable(error, path).told,
            )
        except OSError as error:
            yield account, f"{path}: {error.strerror}"

"""Mail that was acknowledged and that account files still lack, and files that cannot be used: what another program
than the server sees of that, for `doctor` and `explain`. Changes nothing.

A message is put into its file about a second after it was taken (`intake`). One that is older and only in the journal
waits for a file that takes nothing: mostly a damaged one, which `check --repair` makes anew, or one that is missing.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from pillarbox.store import database, journal, made
from pillarbox.store.accounts import account_path, lock_path
from pillarbox.store.copying import find_damage
from pillarbox.store.intake import queue_id_of

SOON_S = 3
"""What waits for longer was offered to its file by then (`intake.WAIT_S`; the journal has whole seconds)."""

LATE_S = 10
"""What waits for longer does so whatever the file looks like: it may be that another program has it."""


@dataclass(slots=True)
class Lacking:
    """What one account's file lacks."""

    queue_ids: list[str] = field(default_factory=list)
    """One for each message; "" of what did not come by a delivery."""
    oldest: int = 0
    """When the first of them was taken, in epoch seconds."""
    is_exact: bool = True
    """False: the file does not say what it has, so some of these may be in it."""
    is_missing: bool = False
    """The file was made and is not there."""


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
        is_missing = made.is_missing(path)
        # One that is neither gets its first mail just now, or its account was removed.
        if is_missing or path.exists():
            lacking = _compare(path, account, runs, is_missing=is_missing)
            if lacking.queue_ids:
                found[account] = lacking
    return found


def does_wait(data_dir: Path, account: int, lacking: Lacking, now: float) -> bool:
    """Whether an account's file takes nothing, and what it lacks does not just come. Blocks: a file that lacks
    something for seconds is looked at for damage, the whole of it."""
    age_s = now - lacking.oldest
    if lacking.is_missing or age_s > LATE_S:
        return True
    if age_s < SOON_S:
        return False
    with suppress(apsw.Error):  # somebody has it: the time will tell
        return bool(find_damage(account_path(data_dir / "accounts", account)))
    return False


def find_waiting(data_dir: Path, now: float) -> dict[int, Lacking]:
    """By account, what waits for a file that takes nothing. Blocks as the two. Raises OSError."""
    return {
        account: lacking
        for account, lacking in find_lacking(data_dir).items()
        if does_wait(data_dir, account, lacking, now)
    }


def _compare(
    path: Path, account: int, runs: dict[int, dict[int, tuple[int, str]]], *, is_missing: bool
) -> Lacking:
    """`runs`: by sequence, when it was taken and its queue id."""
    lacking = Lacking(is_missing=is_missing)
    put: dict[int, int] = {}
    try:
        if not is_missing:
            connection = database.open_to_read(path)
            try:
                sql = "SELECT run, max(sequence) FROM taken WHERE account = ? GROUP BY run"
                put = dict(connection.execute(sql, (account,)))
            finally:
                connection.close()
    except apsw.Error:
        lacking.is_exact = False
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

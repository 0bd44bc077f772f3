"""Units of work that wait for their commit (`commit`), and groups of them: one transaction for each group."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import apsw

from pillarbox.core.errors import Failure, Unavailable
from pillarbox.store import database, metadata
from pillarbox.store.accounts import AccountFile
from pillarbox.store.intake import Taken
from pillarbox.store.journal import Framed
from pillarbox.store.numbers import HIGHEST_MAILBOX, ensure_can_be
from pillarbox.store.tx import Tx

MOST_UNITS_A_GROUP = 32
"""Units that one account's transaction takes; the rest wait for the next. The event loop waits for it, about 5 ms, or
25 ms while other threads want the interpreter."""

MOST_OCTETS_A_GROUP = 1 << 20
"""What its units write, but for a single one: the event loop waits for it, 10 to 30 ms."""

LIGHT_OCTETS = 512 * 1024
"""A group that writes more (pieces of large bodies) is applied in a thread."""

log = logging.getLogger("pillarbox.store")


@dataclass(slots=True, eq=False)
class Unit:
    """One unit of work that waits: `work` runs in the transaction; `journalled` gives its journal record, if
    any, from its result, or None where only a synced commit makes it durable."""

    work: Callable[[Tx], Any]
    journalled: Callable[[Any], Framed | None] | None
    journal_octets: int
    done: "asyncio.Future[Any]"
    octets: int = 0
    """About how much it writes, where that is much."""
    is_short: bool = False
    """The event loop can wait for it: it touches few messages."""
    batch: list[Taken] | None = None
    """It puts these into their file; nobody waits for it."""
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Applied:
    """A group whose transaction went through."""

    units: list[Unit]
    changed: set[int] = field(default_factory=set)


def group_size(units: list[Unit]) -> int:
    """How many of the units that wait, from the first on, make a group."""
    octets = 0
    for number, unit in enumerate(units[:MOST_UNITS_A_GROUP]):
        octets += unit.octets
        if number and octets > MOST_OCTETS_A_GROUP:
            return number
    return min(len(units), MOST_UNITS_A_GROUP)


def is_short(units: list[Unit]) -> bool:
    """Whether the event loop can wait for a group."""
    return (
        all(unit.is_short or unit.journalled is not None for unit in units)
        and sum(unit.octets for unit in units) <= LIGHT_OCTETS
    )


def nothing(_result: Any) -> None:
    """The journal record of a unit that nobody was promised anything of."""


def apply(file: AccountFile, units: list[Unit], level: str, now_s: int) -> Applied:
    """One transaction for a group, and one for each unit where the disk made that fail. Waits while another program
    has the file: for a thread."""
    file.writer.set_busy_timeout(database.BUSY_TIMEOUT_MS)
    try:
        return _apply(file, units, level, now_s)
    except apsw.BusyError as error:
        return fail_all(units, database.unavailable(error))


def apply_at_once(file: AccountFile, units: list[Unit], now_s: int) -> Applied | None:
    """The same at NORMAL, on the event loop. None: another program has the file."""
    file.writer.set_busy_timeout(0)
    try:
        return _apply(file, units, database.NORMAL, now_s)
    except apsw.BusyError:
        return None


def _apply(file: AccountFile, units: list[Unit], level: str, now_s: int) -> Applied:
    """Raises apsw.BusyError: nothing was done."""
    try:
        file.ensure_in_place()
    except Unavailable as failure:
        return fail_all(units, failure)
    try:
        file.set_synchronous(level)
        group = _begin(file, units, now_s)
        file.writer.execute("COMMIT")
        return group
    except apsw.BusyError:
        _roll_back(file)
        raise
    except apsw.Error as error:
        _roll_back(file)
        if len(units) == 1:
            return fail_all(units, database.unavailable(error))
        changed: set[int] = set()
        for unit in units:
            try:
                changed |= _apply(file, [unit], level, now_s).changed
            except apsw.BusyError as busy:  # others of the group may have gone through
                unit.error = database.unavailable(busy)
        return Applied(units, changed)


def _begin(file: AccountFile, units: list[Unit], now_s: int) -> Applied:
    """Run the units in a transaction that stays open. Raises apsw.Error if all of it is lost."""
    execute = file.writer.execute
    execute("BEGIN IMMEDIATE")
    group = Applied(units)
    # One unit alone needs no savepoint, which would copy each page that it changes.
    is_alone = len(units) == 1
    undo = "ROLLBACK; BEGIN" if is_alone else "ROLLBACK TO unit; RELEASE unit"
    for unit in units:
        tx = file.write_tx(now_s)
        unit.result = unit.error = None
        if not is_alone:
            execute("SAVEPOINT unit")
        try:
            unit.result = unit.work(tx)
            for mailbox in tx.changed:
                if mailbox != metadata.ACCOUNT:
                    ensure_can_be(mailbox, HIGHEST_MAILBOX)
            if not is_alone:
                execute("RELEASE unit")
            group.changed |= tx.changed
        except Exception as error:
            if database.is_disk_error(error) or not file.writer.in_transaction:
                raise
            execute(undo)
            file.keyword_names.clear()  # another process may give the number of a set anew
            if isinstance(error, apsw.Error):
                if not database.is_damage(error):  # that is told with what to do (`damage`)
                    log.error("account %d: %s", file.account, error)
                unit.error = database.unavailable(error)
            else:
                unit.error = error
    return group


def _roll_back(file: AccountFile) -> None:
    file.keyword_names.clear()
    if file.writer.in_transaction:
        file.writer.execute("ROLLBACK")


def records_of(group: Applied) -> list[Framed]:
    """Of those of its appends that worked, for the journal."""
    return [
        record
        for unit in group.units
        if unit.error is None and unit.journalled and (record := unit.journalled(unit.result))
    ]


def fail_all(units: list[Unit], error: BaseException) -> Applied:
    """Nothing of a group went through."""
    for unit in units:
        unit.error = error
    return Applied(units)


def settle(unit: Unit) -> None:
    """Answer the caller."""
    if unit.done.done():
        return  # the caller went away; the commit decides
    error = unit.error
    if error is not None:
        # Where a bug was is for the log; a failure would only keep alive what stands in the frames it came through.
        unit.done.set_exception(error.with_traceback(None) if isinstance(error, Failure) else error)
    else:
        unit.done.set_result(unit.result)


def stopping() -> Unavailable:
    """For what cannot be done any more."""
    return Unavailable("the server is stopping", "UNAVAILABLE")

"""Units of work that wait for their commit (`commit`), and groups of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pillarbox.core.errors import Unavailable
from pillarbox.store.intake import Taken
from pillarbox.store.tx import Tx


@dataclass(slots=True, eq=False)
class Unit:
    """One unit of work that waits: `work` runs in the transaction; `journalled` gives the octets of its journal
    records from its result, or None where only a synced commit makes it durable."""

    work: Callable[[Tx], Any]
    journalled: Callable[[Any], bytes] | None
    journal_octets: int
    done: "asyncio.Future[Any]"
    octets: int = 0
    """About how much it writes, where that is much."""
    batch: list[Taken] | None = None
    """It puts these into their file; nobody waits for it."""
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Applied:
    """A group whose transaction went through."""

    units: list[Unit]
    changed: set[int] = field(default_factory=set)


def nothing(_result: Any) -> bytes:
    """The journal record of a unit that nobody was promised anything of."""
    return b""


def records_of(group: Applied) -> list[bytes]:
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
    if unit.error is not None:
        unit.done.set_exception(unit.error)
    else:
        unit.done.set_result(unit.result)


def stopping() -> Unavailable:
    """For what cannot be done any more."""
    return Unavailable("the server is stopping", "UNAVAILABLE")

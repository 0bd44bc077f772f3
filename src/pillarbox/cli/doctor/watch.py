"""`pillarbox doctor --watch`: the round trip again and again, a line for each, and its figures for the metrics."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from pillarbox.app.canary import SERIES, Canary, only_canary, read_canary, write_canary
from pillarbox.cli.common import duration, visible
from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, Level
from pillarbox.cli.doctor.round_trip import Trip, travel
from pillarbox.core.secret import Secret

END_S = 5.0
"""How long the end waits for a trip under way."""

Chains = list[list[x509.Certificate]]


@dataclass(slots=True)
class Watch:
    """Until SIGINT or SIGTERM."""

    case: Case
    account: str
    password: Secret
    every_s: float
    as_json: bool
    read_chains: Callable[[], Chains]
    """The certificates as they are now; none where they cannot be read."""
    worked: bool | None = None
    """The last trip; None: there was none."""
    since: float = field(default_factory=time.time)
    """When that began to be so."""

    async def run(self) -> bool:
        """Whether the last trip worked. Raises Refused, OSError."""
        folder = self.case.config.data_path
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ending.set)
        with only_canary(folder):
            canary = read_canary(folder)
            canary.every_s = self.every_s
            while not ending.is_set():
                began = time.monotonic()
                trip = loop.create_task(self._travel())
                ended = loop.create_task(ending.wait())
                await asyncio.wait((trip, ended), return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                # One under way removes its message; if it hangs, the next one does.
                await asyncio.wait((trip,), timeout=END_S)
                if not trip.done():
                    trip.cancel()
                    text = (
                        "the round trip under way was given up; its message may stay until the next"
                    )
                    click.echo(f"pillarbox: {text}", err=True)
                    self.worked = False
                    break
                self._tell(trip.result(), canary, folder)
                left_s = max(0.0, began + self.every_s - time.monotonic())
                try:
                    await asyncio.wait_for(ending.wait(), left_s)
                except TimeoutError:
                    self.case.chains = await asyncio.to_thread(self.read_chains) or self.case.chains
        return bool(self.worked)

    async def _travel(self) -> Trip:
        return await travel(self.case, self.account, self.password, SERIES)

    def _tell(self, trip: Trip, canary: Canary, folder: Path) -> None:
        now = round(time.time(), 3)
        worked = trip.failure is None
        has_changed = self.worked is not None and worked is not self.worked
        lasted = duration(now - self.since)
        if worked is not self.worked:
            self.worked, self.since = worked, now
        canary.account = self.account
        canary.note(now, trip.times, worked=worked)
        try:
            write_canary(folder, canary)
        except OSError as failure:
            text = f"the metrics do not hear of this: {folder}: {failure.strerror}"
            click.echo(f"pillarbox: {text}", err=True)
        if self.as_json:
            click.echo(json.dumps(_as_json(trip, now, self.account, has_changed=has_changed)))
            return
        for line in _lines(trip, now, self.account, lasted if has_changed else ""):
            click.echo(line)


def _as_json(trip: Trip, now: float, account: str, *, has_changed: bool) -> dict[str, object]:
    failure = trip.failure
    return {
        "at": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "account": account,
        "worked": failure is None,
        "changed": has_changed,
        "milliseconds": {stage: round(seconds * 1000, 1) for stage, seconds in trip.times.items()},
        "failed": failure.subject.rpartition(" ")[2] if failure is not None else None,
        "found": failure.found if failure is not None else None,
        "advice": failure.advice if failure is not None else None,
    }


def _lines(trip: Trip, now: float, account: str, lasted: str) -> list[str]:
    """For people; `lasted` is how long it was otherwise, "" where nothing changed."""
    at = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%SZ}"
    times = ", ".join(f"{stage} {seconds * 1000:.0f} ms" for stage, seconds in trip.times.items())
    failure = trip.failure
    if failure is None:
        lines = [f"{at}  ok      {account}: {times}"]
        if lasted:
            text = f"{at}  *** MAIL WORKS AGAIN for {account}, after {lasted} ***"
            lines.insert(0, click.style(text, fg="green", bold=True))
        return lines
    before = f" ({times} before)" if times else ""
    lines = [
        click.style(
            f"{at}  FAILED  {visible(failure.subject)}: {_found(failure)}{before}", fg="red"
        )
    ]
    lines.append(f"{'':20}    do: {visible(failure.advice)}")
    if lasted:
        text = f"{at}  *** MAIL FAILS NOW for {account}, after {lasted} without a fault ***\a"
        lines.insert(0, click.style(text, fg="red", bold=True))
    return lines


def _found(failure: Finding) -> str:
    return visible(failure.found) if failure.level is not Level.OK else ""

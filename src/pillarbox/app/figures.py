"""What a running server knows of itself, put together from what its workers published: for `pillarbox status` and
`pillarbox top`, and for the metrics. It lives in the supervisor, or in the one process."""

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from pillarbox.app.processes import Usage, monotonic_ms, usage_of
from pillarbox.app.shared import Shared
from pillarbox.core.tally import FAMILIES, PLACES, PROTOCOLS, SERVICES

SAMPLE_EVERY_S = 5.0
SAMPLES = 13
"""About a minute."""

LONGEST_SILENCE_S = 5.0
"""Workers tell once a second that they live. Silence of one for so long is none of a busy loop."""

MOST_SLOW_TOLD = 10


class Counts:
    """A row of `core.tally`, by names."""

    def __init__(self, row: list[float]) -> None:
        self.row = row

    def of(self, attribute: str, *labels: str) -> int:
        """How many, of all whose labels have these values; of a histogram, how many were observed."""
        family = FAMILIES[attribute]
        total = 0.0
        for key, place in PLACES[attribute]:
            if all(label in key for label in labels):
                numbers = self.row[place]
                total += sum(numbers[:-1]) if family.kind == "histogram" else numbers[0]
        return int(total)


@dataclass(slots=True)
class WorkerState:
    """One worker now."""

    number: int
    figures: dict[str, int]
    usage: Usage
    restarts: int

    @property
    def pid(self) -> int:
        """0: there is no process, or it does not serve yet."""
        return self.figures["pid"]

    @property
    def silence_s(self) -> float:
        return (monotonic_ms() - self.figures["beat"]) / 1000

    @property
    def serves(self) -> bool:
        return bool(self.pid) and self.silence_s < LONGEST_SILENCE_S


@dataclass(slots=True)
class _Sample:
    at: float
    counts: Counts
    cpu_s: dict[int, float]
    """By process."""


class Status:
    """Puts together what the workers published."""

    def __init__(self, shared: Shared, version: str) -> None:
        self._shared = shared
        self.version = version
        self.pid = os.getpid()
        self.started = int(time.time())
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)
        self.restarts: dict[int, int] = {}
        """By worker."""
        self.moved_at = time.monotonic()
        """When an attempt to send something to another host was last seen to end."""
        self.stopping = False
        """The supervisor was told to stop."""
        self.ended: set[int] = set()
        """Workers that do not come again, by number: the server stops."""
        self.sample()

    def sample(self) -> None:
        """For the rates; once in SAMPLE_EVERY_S."""
        counts = self.counts()
        if not self._samples or counts.of("attempts") != self._samples[-1].counts.of("attempts"):
            self.moved_at = time.monotonic()
        cpu_s = {one.pid: one.usage.cpu_s for one in self.workers() if one.pid}
        self._samples.append(_Sample(time.monotonic(), counts, cpu_s))

    def counts(self) -> Counts:
        """Of all workers together, those that ended included."""
        return Counts(self._shared.counts())

    def workers(self) -> list[WorkerState]:
        return [
            WorkerState(number, figures, usage_of(figures["pid"]), self.restarts.get(number, 0))
            for number, figures in enumerate(self._shared.figures(), 1)
        ]

    def report(self) -> dict[str, Any]:
        """As JSON."""
        counts = self.counts()
        now = time.monotonic()
        minute_ago = self._samples[0]
        # Of five to ten seconds: in a shorter time, too little happens to tell a rate.
        lately = self._samples[-2] if len(self._samples) > 1 else self._samples[-1]
        minutes = max(1.0, (now - minute_ago.at) / 60)  # less: what came since the start
        seconds = max(1.0, now - lately.at)
        totals, before, just_before = map(_told, (counts, minute_ago.counts, lately.counts))
        old = ("accepted", "stored", "sent")
        return {
            "version": self.version,
            "pid": self.pid,
            "started": self.started,
            "stopping": self.stopping,
            "workers": [self._report_of(worker, lately, seconds) for worker in self.workers()],
            "totals": totals,
            "per_minute": {name: round((totals[name] - before[name]) / minutes) for name in old},
            "per_second": {
                name: round((totals[name] - just_before[name]) / seconds, 2) for name in totals
            },
            "slow_commands": self._slow(),
        }

    def _report_of(self, worker: WorkerState, lately: _Sample, seconds: float) -> dict[str, Any]:
        usage = worker.usage
        used_s = usage.cpu_s - lately.cpu_s.get(worker.pid, usage.cpu_s)
        return {
            "worker": worker.number,
            "state": self._state_of(worker),
            "pid": worker.pid or None,
            "started": worker.figures["started"] or None,
            "restarts": worker.restarts,
            "serves": worker.serves,
            "cpu_percent": round(100 * used_s / seconds, 1),
            "cpu_seconds": usage.cpu_s,
            "resident_octets": usage.resident_octets,
            "sqlite_octets": worker.figures["sqlite_octets"],
            "open_files": usage.descriptors,
            "connections": {name: worker.figures[name] for name in SERVICES},
        }

    def _state_of(self, worker: WorkerState) -> str:
        if self.stopping:
            return "ended" if worker.number in self.ended else "stopping"
        return "running" if worker.pid else "starting"

    def _slow(self) -> list[dict[str, Any]]:
        slowest = sorted(self._shared.slow(), key=lambda one: -one.seconds)[:MOST_SLOW_TOLD]
        return [
            {
                "ended": round(one.ended, 3),
                "seconds": round(one.seconds, 3),
                "protocol": one.what.partition(" ")[0],
                "command": one.what.partition(" ")[2],
                "account_id": one.account or None,
            }
            for one in slowest
        ]


def _told(counts: Counts) -> dict[str, int]:
    return {
        "accepted": counts.of("connections"),
        "stored": counts.of("stored"),
        "sent": counts.of("attempts", "delivered"),
        "received": counts.of("messages", "accepted"),
        "refused": counts.of("messages", "rejected") + counts.of("messages", "deferred"),
        "recipients_refused": counts.of("recipients", "rejected")
        + counts.of("recipients", "deferred"),
        "logins": counts.of("logins"),
        "login_failures": counts.of("login_failures"),
        **{f"{name}_commands": counts.of("commands", name) for name in PROTOCOLS},
    }

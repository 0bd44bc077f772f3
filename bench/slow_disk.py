"""Pillarbox on a disk whose syncs take longer, and what that does to mail that comes; Pillarbox alone, one worker.

`python -m bench.slow_disk ...` is `pillarbox ...` on such a disk; SYNC_DELAY_MS says how much slower each sync is.
"""

import asyncio
import os
from functools import partial

from bench.inbound import Mail, measure_mail
from bench.pillarbox_server import PillarboxServer
from bench.relay import sink
from bench.report import LESS, MORE, Row, console, show
from bench.running import in_turns

DELAYS_MS = (0, 5)
SESSIONS = (10, 50)


def run(rounds: int, *, save: bool) -> None:
    """A row for each delay and number of sessions."""
    rows: list[Row] = []
    with sink(1):
        for delay_ms in DELAYS_MS:
            make = partial(PillarboxServer, accounts=100, workers=1, sync_delay_ms=delay_ms)
            for sessions in SESSIONS:
                mail = Mail(sessions=sessions)
                (row,) = in_turns([make], rounds, partial(measure_mail, mail=mail))
                row.name = f"{delay_ms} ms more, {sessions} sessions"
                rows.append(row)
    bars = {"messages/s": MORE, "CPU s per 1,000": LESS}
    lines = [[row.name, *(f"{row.figures[name]:,.2f}" for name in bars)] for row in rows]
    title = f"slow disk: 4 KiB by SMTP, each sync of the mail takes longer, medians of {rounds}"
    show(title, ["row", *bars], lines, rows, save=save)


def delay_syncs(delay_s: float) -> None:
    """From now on, in this process."""
    from pillarbox.store.syncing import Syncs

    sync = Syncs.sync

    def slow_sync(self: Syncs, descriptor: int) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        late: asyncio.Future[None] = loop.create_future()

        def settle(done: "asyncio.Future[None]") -> None:
            error = done.exception()
            if error is not None:
                late.set_exception(error)
            else:
                late.set_result(None)

        def synced(done: "asyncio.Future[None]") -> None:
            loop.call_later(delay_s, settle, done)

        sync(self, descriptor).add_done_callback(synced)
        return late

    Syncs.sync = slow_sync  # type: ignore[method-assign]


if __name__ == "__main__":
    from pillarbox.cli.main import main

    console.print(f"each sync takes {os.environ['SYNC_DELAY_MS']} ms more")
    delay_syncs(float(os.environ["SYNC_DELAY_MS"]) / 1000)
    main()

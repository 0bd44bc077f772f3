"""What `pillarbox status` prints of workers."""

import time
from typing import Any

import pytest

from pillarbox.cli.status import show_report


def shown(
    capsys: pytest.CaptureFixture[str], *states: tuple[int, str], stopping: bool = False
) -> list[str]:
    """The lines for a server with workers of these processes (0: none any more) and states."""
    workers: list[dict[str, Any]] = [
        {
            "worker": number,
            "state": "running" if state == "hanging" else state,
            "serves": state == "running",
            "pid": pid or None,
            "started": time.time() - 60 if state in ("running", "stopping", "hanging") else None,
            "restarts": number,
            "connections": {},
        }
        for number, (pid, state) in enumerate(states)
    ]
    counts = {"accepted": 0, "stored": 0, "sent": 0}
    queue = {"messages": 0, "recipients": 0, "local_deliveries": 0, "for_mail_files": None}
    report = {
        "version": "1",
        "pid": 6,
        "started": time.time(),
        "stopping": stopping,
        "workers": workers,
    }
    show_report({**report, "queue": queue, "per_minute": counts, "totals": counts})
    return capsys.readouterr().out.splitlines()


def test_a_worker_that_is_starting_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, (7, "running"), (0, "starting"))
    assert lines[0] == "Pillarbox 1, process 6, runs for 0 s."
    rows = [line.split() for line in lines[-2:]]
    assert rows == [["0", "7", "1", "min", "0", "s", "0"], ["1", "starting", "1"]]


def test_a_server_that_is_stopping_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, (7, "stopping"), (0, "ended"), stopping=True)
    assert lines[0] == "Pillarbox 1, process 6, runs for 0 s, is stopping."
    rows = [line.split() for line in lines[-2:]]
    assert rows == [["0", "7", "stopping", "0"], ["1", "ended", "1"]]


def test_a_worker_that_does_not_answer_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in shown(capsys, (7, "running"), (8, "hanging"))[-2:]]
    assert rows == [["0", "7", "1", "min", "0", "s", "0"], ["1", "8", "does", "not", "answer", "1"]]

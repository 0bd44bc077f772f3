"""What `pillarbox status` prints of workers."""

import time

import pytest

from pillarbox.cli.status import show_report


def test_a_worker_that_is_starting_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    workers = [
        {"worker": 0, "pid": 7, "started": time.time() - 60, "restarts": 0, "connections": {}},
        {"worker": 1, "pid": 8, "started": 0, "restarts": 1, "connections": {}},
    ]
    counts = {"accepted": 0, "stored": 0, "sent": 0}
    queue = {"messages": 0, "recipients": 0, "local_deliveries": 0, "for_mail_files": None}
    report = {"version": "1", "pid": 6, "started": time.time(), "workers": workers}
    show_report({**report, "queue": queue, "per_minute": counts, "totals": counts})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == [["0", "7", "1", "min", "0", "s", "0"], ["1", "8", "starting", "1"]]

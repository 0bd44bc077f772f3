"""What `pillarbox doctor` says of the server itself (cli.doctor.machine)."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pillarbox.cli.doctor import machine
from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding


def found(monkeypatch: pytest.MonkeyPatch, *, is_stopping: bool = False, **worker: Any) -> Finding:
    """With a report of two workers, the second one as said."""
    running = {"worker": 1, "pid": 11, "state": "running", "serves": True}
    report = {
        "version": "1",
        "pid": os.getpid(),
        "started": 40.0,
        "stopping": is_stopping,
        "workers": [running, {**running, "worker": 2, "pid": 12, **worker}],
    }
    monkeypatch.setattr(machine, "ask", lambda folder: report)
    monkeypatch.setattr(machine, "_is_roots", lambda pid: False)
    case = SimpleNamespace(config=SimpleNamespace(data_path=Path("data")), now=100.0)
    (finding,) = asyncio.run(machine.check_server(cast(Case, case)))
    return finding


def test_a_server_that_serves_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(monkeypatch)
    assert finding.level == "ok"
    assert finding.found.endswith("runs for 1 min 0 s")


def test_a_worker_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(monkeypatch, serves=False)
    assert finding.level == "error"
    assert finding.found.endswith("; worker 2 (process 12) does not answer")
    assert "pillarbox top" in finding.advice


def test_a_worker_that_starts_is_none_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, serves=False, state="starting", pid=None).level == "ok"


def test_a_server_that_stops_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(monkeypatch, is_stopping=True, serves=False, state="ended")
    assert finding.level == "warning"
    assert finding.found.endswith(", is stopping")

"""Runs commands of `pillarbox` in this process."""

import io
import sys
from collections.abc import Callable
from typing import TextIO

import pytest

from pillarbox.cli import main

Run = Callable[..., tuple[int, str, str]]
"""The words of a command, and what is `typed`, as text or as a stream: exit code, stdout, stderr."""


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """In the current folder."""

    def run_command(*arguments: str, typed: str | TextIO = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pillarbox", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed) if isinstance(typed, str) else typed)
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return int(end.value.code or 0), shown.out, shown.err

    return run_command

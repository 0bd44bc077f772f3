"""`pillarbox explain` as people run it: a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAIT_S = 10.0


def run_explain(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr), with the configuration in `folder`."""
    config = ["--config", str(folder / "pillarbox.toml")]
    command = [sys.executable, "-m", "pillarbox", "explain", *arguments, *config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def stories(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run_explain(folder, *arguments, "--json")
    assert code in (0, 1), err
    return json.loads(out) if code == 0 else []


def lines_of(story: dict[str, Any]) -> list[str]:
    """WHAT: TEXT of all that happened, in order."""
    return [f"{event['what']}: {event['text']}" for event in story["events"]]


def wait_for(
    folder: Path, what: str, fits: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Until the stories fit: what happened is written once a second."""
    end = time.monotonic() + WAIT_S
    while True:
        found = stories(folder, what)
        if fits(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.2)


def has(*whats: str) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether all these happened in the first story."""

    def fits(found: list[dict[str, Any]]) -> bool:
        happened = {event["what"] for story in found[:1] for event in story["events"]}
        return happened.issuperset(whats)

    return fits

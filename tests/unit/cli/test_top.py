"""What `pillarbox top` shows fits the terminal: nothing is cut, down to 60 columns."""

import io
from typing import Any

import pytest
from rich.console import Console

from pillarbox.cli.top import picture
from pillarbox.core.tally import PROTOCOL_OF, PROTOCOLS

NOW = 1_000_000.0
NAMES = ("received", "refused", "recipients_refused", "sent", "accepted", "logins")
RATES = [*NAMES, "login_failures", *(f"{protocol}_commands" for protocol in PROTOCOLS)]


def worker(number: int, *, serves: bool = True) -> dict[str, Any]:
    return {
        "worker": number,
        "state": "running",
        "pid": 4_194_304,
        "serves": serves,
        "cpu_percent": 100.0,
        "resident_octets": 2 << 30,
        "sqlite_octets": 1 << 30,
        "open_files": 12_345,
        "restarts": 3,
        "started": NOW - 200_000,
        "connections": dict.fromkeys(PROTOCOL_OF, 1234),
    }


def shown(width: int, *, serves: bool = True) -> list[str]:
    slow = {
        "protocol": "imap",
        "command": "UID FETCH",
        "seconds": 1.5,
        "ended": NOW - 7000,
        "account": "a.very.long.name@department.example.org",
    }
    report: dict[str, Any] = {
        "version": "0.1.0",
        "pid": 4_194_304,
        "started": NOW - 90_000,
        "stopping": False,
        "workers": [worker(1), worker(2, serves=serves)],
        "queue": {
            "messages": 12,
            "oldest_s": 4000,
            "active": 1,
            "deferred": 2,
            "held": 0,
            "local_deliveries": 5,
        },
        "per_second": dict.fromkeys(RATES, 1234.5),
        "totals": dict.fromkeys(RATES, 123_456_789),
        "slow_commands": [slow],
    }
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(picture(report, NOW))
    return file.getvalue().splitlines()


WORDS = ("protocol", "commands/s", "messages refused", "in a second", "in all", "123,456,789")
MORE = ("worker", "4194304", "CPU %", "MiB", "12345", "restarts", "runs for", "2 d 7 h", "1.500")


@pytest.mark.parametrize("width", [60, 70, 80, 100, 200])
@pytest.mark.parametrize("serves", [True, False])
def test_nothing_is_cut_at_any_usual_width(width: int, serves: bool) -> None:
    lines = shown(width, serves=serves)
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width
    assert [word for word in (*WORDS, *MORE) if word not in text] == []
    assert "a.very.long.name@department.example.org" in text.replace("\n", "").replace(" ", "")


def test_where_there_is_room_tables_stand_side_by_side() -> None:
    (heads,) = [line for line in shown(80) if "protocol" in line]
    assert "in all" in heads
    (heads,) = [line for line in shown(60) if "protocol" in line]
    assert "in all" not in heads

"""Tables on terminals of several widths, by the real command in a pseudo-terminal."""

import asyncio
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient

_STYLE = re.compile("\x1b\\[[0-9;]*m")
SENDER, RECIPIENT = "alice@example.org", "robert@example.com"
REPLY = "450 4.2.0 Greylisted, come back in a minute or two"


def shown(folder: Path, width: int, *arguments: str) -> list[str]:
    """What a command prints on a terminal so wide."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=secondary,
    ) as process:
        os.close(secondary)
        octets = b""
        while True:
            try:
                some = os.read(primary, 65536)
            except OSError:  # so Linux says that the other end is closed
                break
            octets += some
        os.close(primary)
    assert process.returncode == 0
    return [line.rstrip() for line in _STYLE.sub("", octets.decode()).splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a server whose queue has a message."""
    (tmp_path / "pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    queue = OutgoingQueue(tmp_path / "data/queue.db", clock=time.time)

    async def fill() -> None:
        message = OutgoingMessage("02H35N444BPXZQGY", SENDER, b"Subject: x\r\n\r\nhello\r\n")
        recipient = OutgoingRecipient(RECIPIENT, "example.com")
        await queue.enqueue(message, [recipient], lifetime_s=86400, warn_after_s=0)
        for rows in await queue.lease("w", 60, limit=9):
            await queue.defer("w", rows, 2_000_000_000, "mx.example [192.0.2.1]", REPLY)

    asyncio.run(fill())
    queue.close()
    return tmp_path


@pytest.mark.parametrize("width", [60, 80, 100])
def test_rows_too_wide_for_the_terminal_are_lines_of_name_and_value(
    folder: Path, width: int
) -> None:
    lines = shown(folder, width, "queue", "list")
    assert lines[0].split() == ["queue", "id:", "02H35N444BPXZQGY"]
    assert lines[1].split() == ["sender:", SENDER]
    assert lines[2].split() == ["recipient:", RECIPIENT]
    assert any(line.endswith(" 2033-05-18 03:33:20Z") for line in lines)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [132, 200])
def test_only_the_last_column_is_wrapped(folder: Path, width: int) -> None:
    head, first, *more = shown(folder, width, "queue", "list")
    assert head.split()[:2] == ["queue", "id"]
    assert first.startswith(f"02H35N444BPXZQGY  {SENDER}  {RECIPIENT}  waiting")
    start = head.index("reply")
    words = " ".join(line[start:] for line in (first, *more))
    assert words == REPLY
    assert all(not line[:start].strip() for line in more)

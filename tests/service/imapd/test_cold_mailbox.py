"""FETCH over a mailbox that has to be read from the disk has it read ahead, and answers the same."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from imap_harness import serving

from pillarbox.imapd import fetch_slices


def test_what_comes_is_read_ahead_where_a_slice_came_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    async def run() -> None:
        async with serving(tmp_path) as imap:
            client = await imap.login(b"INBOX")
            for number in range(3):
                await client.append(b"INBOX", b"Subject: %d\r\n\r\nx\r\n" % number)
            await client.ok(b"SELECT INBOX")
            for _ in range(8):
                await client.ok(b"COPY 1:* INBOX")
            messages = 3 * 2**8
            warm = await client.ok(b"FETCH 1:* (ENVELOPE)")
            assert not begun
            blocks = count(0, fetch_slices.COLD_BLOCKS + 1)
            monkeypatch.setattr(fetch_slices, "blocks_read", lambda: next(blocks))
            ahead = imap.store.read_ahead
            monkeypatch.setattr(type(ahead), "begin", lambda _, *args: begun.append(args))
            assert await client.ok(b"FETCH 1:* (ENVELOPE)") == warm
            assert [each[2] for each in begun] == [(257, messages)]
            await client.ok(b"FETCH 1:* (FLAGS)")
            assert len(begun) == 1

    asyncio.run(run())

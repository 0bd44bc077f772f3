"""FETCH over a mailbox that has to be read from the disk has it read ahead, and answers the same."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from imap_harness import OTHERS, serving

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


def test_a_mailbox_of_somebody_else_is_read_ahead_in_the_file_of_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    async def run() -> None:
        async with serving(tmp_path) as imap:
            owner = await imap.login(b"INBOX")
            await owner.append(b"INBOX", b"Subject: 1\r\n\r\nx\r\n")
            await owner.ok(b"SELECT INBOX")
            for _ in range(10):
                await owner.ok(b"COPY 1:* INBOX")
            await owner.ok(b"SETACL INBOX anyone lr")
            other = await imap.login(user=OTHERS[0])
            await other.ok(b'EXAMINE "Other Users.user@example^2Ecom.INBOX"')
            blocks = count(0, fetch_slices.COLD_BLOCKS + 1)
            monkeypatch.setattr(fetch_slices, "blocks_read", lambda: next(blocks))
            ahead = type(imap.store.read_ahead)
            monkeypatch.setattr(ahead, "begin", lambda _, *args: begun.append(args))
            await other.ok(b"FETCH 1:* (ENVELOPE)")
            assert {each[0] for each in begun} == {imap.account}

    asyncio.run(run())

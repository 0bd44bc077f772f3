"""Annotations, where a transcript cannot say it: limits and NULs (RFC 5464 §4.1, §4.3)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from imap_harness import Imap, serving

from pillarbox.store import metadata


def in_service(tmp_path: Path, test: Any) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await test(imap)

    asyncio.run(run())


def test_a_value_may_be_binary(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        value = bytes(range(256)) * 8
        await client.ok(b"SETMETADATA INBOX (/private/icon ~{%d+}\r\n%b)" % (len(value), value))
        (answer,) = await client.ok(b"GETMETADATA INBOX /private/icon")
        assert answer == b"* METADATA INBOX (/private/icon ~{%d}\r\n%b)" % (len(value), value)
        plain = await client.command(b"SETMETADATA INBOX (/private/icon {3+}\r\na\0b)")
        assert plain[-1].startswith(b"BAD")

    in_service(tmp_path, test)


def test_values_and_their_number_have_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        size = metadata.LARGEST_VALUE + 1
        command = b'SETMETADATA INBOX (/private/a "x" /private/b {%d+}\r\n%b)' % (size, bytes(size))
        command = command.replace(b"\0", b"x")
        answer = (await client.command(command))[-1]
        assert answer.startswith(b"NO [METADATA MAXSIZE 65536] ")
        # all or nothing
        assert await client.ok(b"GETMETADATA INBOX /private/a") == [
            b"* METADATA INBOX (/private/a NIL)"
        ]
        for number in range(metadata.MOST_ENTRIES):
            await client.ok(b'SETMETADATA INBOX (/private/n%d "x")' % number)
        answer = (await client.command(b'SETMETADATA INBOX (/private/more "x")'))[-1]
        assert answer.startswith(b"NO [METADATA TOOMANY] ")
        await client.ok(b'SETMETADATA INBOX (/private/n0 "y" /private/n1 NIL /private/n2 "z")')
        monkeypatch.setattr(metadata, "LARGEST_TOTAL", 200)
        await client.ok(b'SETMETADATA Sent (/private/a "%b")' % (b"x" * 100))
        answer = (await client.command(b'SETMETADATA Sent (/private/b "xx")'))[-1]
        assert answer.startswith(b"NO [METADATA TOOMANY] ")

    in_service(tmp_path, test)

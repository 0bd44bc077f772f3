"""APPEND in all its forms, where a transcript cannot say it: NULs, large messages, all or none."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from imap_harness import Imap, serving

from pillarbox.core.errors import DiskFull
from pillarbox.imapd import upload
from pillarbox.imapd.places import Place
from pillarbox.store import appending
from pillarbox.store.appending import Append
from pillarbox.store.spool import Spool
from pillarbox.store.tx import Tx

IMAGE = bytes(range(256)) * 40
PART = b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n%b\r\n"
BINARY = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/%b; boundary=b\r\n\r\n"
    + PART % IMAGE.replace(b"%", b"%%")
    + b"--b--\r\n"
)


def in_service(tmp_path: Path, test: Any) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await test(imap)

    asyncio.run(run())


def test_binary_parts_come_back_as_they_were_sent(tmp_path: Path) -> None:
    # RFC 3516 §4.3, §4.4
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        message = BINARY % b"mixed"
        await client.ok(b"APPEND INBOX ~{%d+}\r\n%b" % (len(message), message))
        (answer,) = await client.ok(b"FETCH 1 BINARY.PEEK[1]")
        assert answer == b"* 1 FETCH (BINARY[1] ~{%d}\r\n%b)" % (len(IMAGE), IMAGE)
        (answer,) = await client.ok(b"FETCH 1 BINARY.SIZE[1]")
        assert answer == b"* 1 FETCH (BINARY.SIZE[1] %d)" % len(IMAGE)
        (structure,) = await client.ok(b"FETCH 1 BODYSTRUCTURE")
        assert b'"base64"' in structure  # RFC 3516 §6: as though it were encoded
        (body,) = await client.ok(b"FETCH 1 BODY.PEEK[]")
        assert b"\0" not in body

    in_service(tmp_path, test)


def test_binary_octets_that_may_not_be_encoded_are_refused(tmp_path: Path) -> None:
    # RFC 3516 §4.4: nothing may get lost
    async def test(imap: Imap) -> None:
        client = await imap.login()
        message = BINARY % b"signed"
        answer = await client.command(b"APPEND INBOX ~{%d+}\r\n%b" % (len(message), message))
        assert answer[-1].startswith(b"NO [UNKNOWN-CTE] ")
        (status,) = await client.ok(b"STATUS INBOX (MESSAGES)")
        assert status == b"* STATUS INBOX (MESSAGES 0)"

    in_service(tmp_path, test)


def test_large_parts_are_decoded_in_pieces(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        image = bytes(range(256)) * 10_000
        message = (
            b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n" + image
        )
        await client.ok(b"APPEND INBOX ~{%d+}\r\n%b" % (len(message), message))
        (answer,) = await client.ok(b"FETCH 1 (BINARY.PEEK[1])")
        assert answer == b"* 1 FETCH (BINARY[1] ~{%d}\r\n%b)" % (len(image), image)
        (answer,) = await client.ok(b"FETCH 1 (BINARY.PEEK[1]<1000000.1000000>)")
        part = image[1_000_000:2_000_000]
        assert answer == b"* 1 FETCH (BINARY[1]<1000000> ~{%d}\r\n%b)" % (len(part), part)

    in_service(tmp_path, test)


def test_large_messages_are_appended_together(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 100_000
        await client.ok(
            b"APPEND Sent {%d+}\r\n%b {5+}\r\nA: b\n {%d+}\r\n%b"
            % (len(large), large, len(large), large)
        )
        await client.ok(b"SELECT Sent")
        for number in (b"1", b"3"):
            (answer,) = await client.ok(b"FETCH " + number + b" BODY.PEEK[]")
            assert large in answer

    in_service(tmp_path, test)


def test_of_several_messages_all_are_stored_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RFC 3502 §6.3.11: no partial appending
    async def test(imap: Imap) -> None:
        client = await imap.login()
        real = appending.append_all

        def fail_at_the_third(tx: Tx, items: Sequence[Append], staged: Mapping[int, int]) -> Any:
            real(tx, items[:2], staged)
            raise DiskFull

        large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 100_000
        command = b"APPEND INBOX {%d+}\r\n%b {4+}\r\nA: b {4+}\r\nA: c" % (len(large), large)
        monkeypatch.setattr(appending, "append_all", fail_at_the_third)
        assert (await client.command(command))[-1].startswith(b"NO [UNAVAILABLE] ")
        (status,) = await client.ok(b"STATUS INBOX (MESSAGES)")
        assert status == b"* STATUS INBOX (MESSAGES 0)"
        monkeypatch.undo()
        await client.ok(command)
        (status,) = await client.ok(b"STATUS INBOX (MESSAGES)")
        assert status == b"* STATUS INBOX (MESSAGES 3)"
        rows = await imap.store.read(imap.account, lambda tx: tx.rows("SELECT 1 FROM staged", ()))
        assert not rows

    in_service(tmp_path, test)


def test_messages_of_one_command_have_a_limit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.imapd.commands.append.LARGEST_UPLOAD", 10)

    async def test(imap: Imap) -> None:
        client = await imap.login()
        answer = await client.command(b"APPEND INBOX {5+}\r\nA: bc {5+}\r\nA: bc {5+}\r\nA: bc")
        assert answer[-1].startswith(b"NO [LIMIT] ")
        await client.ok(b"APPEND INBOX {5+}\r\nA: bc {5+}\r\nA: bc")

    in_service(tmp_path, test)


def test_a_full_disk_within_a_message_ends_the_command_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()

        def full(self: Spool, chunk: bytes) -> bool:
            raise OSError("no space")

        monkeypatch.setattr(Spool, "write", full)
        answer = await client.command(b"APPEND INBOX {5+}\r\nA: bc {5+}\r\nA: bc")
        assert answer[-1].startswith(b"NO [UNAVAILABLE] ")
        monkeypatch.undo()
        await client.ok(b"APPEND INBOX {5+}\r\nA: bc")
        assert imap.context.spool_room.used == 0

    in_service(tmp_path, test)


def test_an_upload_counts_all_its_messages() -> None:
    assert upload.Upload(Place(1, ("INBOX",)), 1).size == 0

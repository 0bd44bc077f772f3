"""STORE tells of messages that are all alike without reading them again: what it tells is the same (RFC 3501 §6.4.6,
RFC 7162 §3.1.3)."""

import asyncio
import random
from pathlib import Path
from unittest.mock import patch

import pytest
from imap_harness import SIMPLE, Imap, serving
from tests.budget import tries

from pillarbox.imapd import fetch_slices
from pillarbox.imapd.commands import store

MESSAGES = 20
FLAGS = (b"\\Seen", b"\\Flagged", b"\\Deleted", b"Work", b"$Later", b"")


def some_commands(dice: random.Random) -> list[tuple[int, bytes]]:
    """Commands of two clients; client 2 expunges, too, and messages come."""
    commands = []
    for _ in range(14):
        first = dice.randint(1, MESSAGES - 4)
        sets = (b"1:*", b"%d" % first, b"%d:%d" % (first, first + 3), b"%d,%d" % (first, first + 2))
        command = b"STORE %b %bFLAGS%b (%b)" % (
            dice.choice(sets),
            dice.choice((b"+", b"-", b"")),
            dice.choice((b"", b"", b".SILENT")),
            b" ".join(filter(None, set(dice.choices(FLAGS, k=2)))),
        )
        commands.append((dice.randint(1, 2), dice.choice((b"", b"UID ")) + command))
        match dice.randrange(8):
            case 0:
                commands.append((2, b"EXPUNGE"))
            case 1:
                commands.append((0, b"a message comes"))
            case 2:
                commands.append((dice.randint(1, 2), b"NOOP"))
            case 3:
                commands.append((dice.randint(1, 2), b"ENABLE CONDSTORE"))
    return commands


async def told(imap: Imap, commands: list[tuple[int, bytes]]) -> list[list[bytes]]:
    for _ in range(MESSAGES // 2):
        await imap.put(SIMPLE)
    clients = [await imap.login(b"INBOX"), await imap.login(b"INBOX")]
    for _ in range(MESSAGES // 2):  # \Recent in the session that hears of them first
        await imap.put(SIMPLE)
    lines = [await client.command(b"NOOP") for client in clients]
    for number, command in commands:
        if number == 0:
            await imap.put(SIMPLE)
        else:
            lines.append(await clients[number - 1].command(command))
    for client in clients:
        lines.append(await client.command(b"FETCH 1:* (UID FLAGS MODSEQ)"))
        client.close()
    return lines


@pytest.mark.parametrize("seed", range(tries(12, 300)))
def test_what_is_told_is_what_would_be_read(tmp_path: Path, seed: int) -> None:
    commands = some_commands(random.Random(seed))

    async def run(name: str) -> list[list[bytes]]:
        async with serving(tmp_path / name) as imap:
            return await told(imap, commands)

    tmp_path.joinpath("read").mkdir()
    tmp_path.joinpath("alike").mkdir()
    with patch.object(fetch_slices, "LIGHT_ROWS", 7):
        with patch.object(store, "_are_alike", return_value=False):
            expected = asyncio.run(run("read"))
        assert asyncio.run(run("alike")) == expected


def test_a_keyword_may_have_a_per_cent_sign() -> None:
    """No client can make one (RFC 3501 §9 atom), but mail may have been put here in another way."""
    template = fetch_slices._template((fetch_slices.UID, fetch_slices.FLAGS), b"100%d", 0)
    assert template % (3, 7) == b"* 3 FETCH (UID 7 FLAGS (100%d))\r\n"


def test_one_value_of_flags_is_told_without_a_read(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            for _ in range(3):
                await imap.put(SIMPLE)
            client = await imap.login(b"INBOX")
            with patch.object(store, "send_items", side_effect=AssertionError):
                for command in (b"STORE 1:* +FLAGS (\\Seen)", b"STORE 1:* +FLAGS (\\Seen)"):
                    assert await client.ok(command) == [
                        b"* %d FETCH (FLAGS (\\Seen \\Recent))" % number for number in (1, 2, 3)
                    ]
            client.close()

    asyncio.run(run())

"""Every transcript in tests/transcripts/imap, over a real connection, and once more while somebody looks on."""

import asyncio
import re
from pathlib import Path

import pytest
from imap_harness import PASSWORD, Transcript, serving

from pillarbox.net.tap import CLIENT, SERVER, Said

FOLDER = Path(__file__).parents[2] / "transcripts" / "imap"
NAMES = sorted(path.name for path in FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", NAMES)
def test_transcript(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await Transcript(imap, FOLDER / name).run()

    asyncio.run(run())


@pytest.mark.parametrize("name", NAMES)
def test_who_is_looked_at_is_answered_the_same(name: str, tmp_path: Path) -> None:
    said: list[Said] = []

    async def run() -> None:
        async with serving(tmp_path, said=said) as imap:
            await Transcript(imap, FOLDER / name).run()

    asyncio.run(run())
    assert {line.who for line in said} == {CLIENT, SERVER, ""}
    heard = [line.text for line in said if line.who == CLIENT]
    assert not any(re.search(rb"\b%b\b" % PASSWORD.encode(), text) for text in heard)

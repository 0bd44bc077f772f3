"""Every transcript in tests/transcripts/imap, over a real connection."""

import asyncio
from pathlib import Path

import pytest
from imap_harness import Transcript, serving

FOLDER = Path(__file__).parents[2] / "transcripts" / "imap"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt")))
def test_transcript(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await Transcript(imap, FOLDER / name).run()

    asyncio.run(run())

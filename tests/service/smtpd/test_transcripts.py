"""Every transcript in tests/transcripts/smtp, over a real connection, in lab mode."""

import sys
from pathlib import Path

import pytest

from pillarbox.core.networks import parse_networks

FOLDER = Path(__file__).parents[2] / "transcripts"
sys.path.insert(0, str(FOLDER / "seed"))

from replay import PlainSocket, read_transcript, replay  # noqa: E402

TRANSCRIPTS = sorted((FOLDER / "smtp").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(lab, path: Path) -> None:
    lab.context.xclient_from = parse_networks(["127.0.0.1"] if path.stem == "xclient" else [])
    wire = PlainSocket("127.0.0.1", lab.ports["lmtp" if path.stem == "lmtp" else "smtp"])
    try:
        replay(read_transcript(path), wire, lambda line: line[3:4] == " ")
    finally:
        wire.close()

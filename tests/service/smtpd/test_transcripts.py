"""Every transcript in tests/transcripts/smtp, over a real connection, in lab mode, and once more while somebody looks
on."""

import sys
from pathlib import Path

import pytest

from pillarbox.core.networks import parse_networks
from pillarbox.net.tap import CLIENT

FOLDER = Path(__file__).parents[2] / "transcripts"
sys.path.insert(0, str(FOLDER / "seed"))

from replay import PlainSocket, read_transcript, replay  # noqa: E402

TRANSCRIPTS = sorted((FOLDER / "smtp").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(lab, path: Path) -> None:
    play(lab, path)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_who_is_looked_at_is_answered_the_same(lab, path: Path) -> None:
    lab.said = said = []
    try:
        play(lab, path)
    finally:
        lab.said = None
    sent = [line.text for line in read_transcript(path) if line.kind == "C"]
    heard = [line.text.decode() for line in said if line.who == CLIENT]
    rest = iter(sent)
    assert all(text in rest for text in heard if not text.startswith("<")), "in their order"
    assert len(heard) > 2
    assert all(line.stage for line in said)


def play(lab, path: Path) -> None:
    lab.context.xclient_from = parse_networks(["127.0.0.1"] if path.stem == "xclient" else [])
    wire = PlainSocket("127.0.0.1", lab.ports["lmtp" if path.stem == "lmtp" else "smtp"])
    try:
        replay(read_transcript(path), wire, lambda line: line[3:4] == " ")
    finally:
        wire.close()

"""Each parser takes whatever comes: the kept corpus, and some seconds of fuzzing; `make fuzz` takes longer."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from targets import TARGETS, Target

import fuzz

SECONDS = 10.0


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_parser_or_holds_it_up(name: str) -> None:
    assert fuzz.corpus_of(name), "every target has a corpus to begin with"
    assert fuzz.fuzz(name, SECONDS / len(TARGETS), random.Random()) > 0


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "seed").write_bytes(b"ab<cd")
    return tmp_path / "made"


def one_of(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setitem(TARGETS, "made", target)


def test_an_exception_is_found_made_small_and_kept(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: bytes) -> None:
        if data.count(b"<") > 3:
            raise IndexError

    one_of(monkeypatch, Target(run, 1000))
    with pytest.raises(IndexError):
        fuzz.fuzz("made", 20, random.Random(1))
    (found,) = corpus.glob("found-*")
    assert found.read_bytes().count(b"<") > 3
    assert len(found.read_bytes()) < 40
    with pytest.raises(IndexError):  # at once, from the corpus
        fuzz.fuzz("made", 0, random.Random(1))


def test_what_takes_too_long_for_its_size_is_found(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(data: bytes) -> None:
        for start in range(len(data)):
            data.count(b"x", start)
            data[start:].count(b"xyz")

    one_of(monkeypatch, Target(run, 1 << 17))
    with pytest.raises(fuzz.Slow):
        fuzz.check(TARGETS["made"], b"ab" * (1 << 13))
    fuzz.check(TARGETS["made"], b"ab")


def test_each_step_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(data: bytes) -> Iterator[None]:
        for _ in range(20):
            sum(range(300_000))  # some milliseconds
            yield

    fuzz.check(Target(run, 10), b"")


def test_memory_that_grows_is_found(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[bytes]] = []
    growing = Target(lambda data: kept.extend([data] for _ in range(500)), 1000)
    with pytest.raises(fuzz.Grows):
        fuzz.check_growth(growing, [b"x"])
    fuzz.check_growth(Target(lambda data: None, 1000), [b"x"])

"""The tables of the benchmarks."""

import io

import pytest
from bench import report as module
from bench.report import MORE, Bar, Row, report
from rich.console import Console

BARS = {"messages/s": Bar(10, more_is_better=True), "load CPU share, %": MORE}
OURS = Row("Pillarbox", {"messages/s": 3000.0, "load CPU share, %": 7.0})
THEIRS = Row("Postfix + Dovecot", {"messages/s": 200.0, "load CPU share, %": 2.0}, is_peer=True)


def table(monkeypatch: pytest.MonkeyPatch, rows: list[Row], bars: dict[str, Bar]) -> str:
    file = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=file, width=140))
    report("inbound", rows, bars, save=False)
    return file.getvalue()


def test_a_bar_is_judged_beside_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    text = table(monkeypatch, [THEIRS, OURS], BARS)
    assert "better by" in text
    assert "15.00 x" in text
    assert "10 x: met" in text


def test_without_a_peer_there_is_no_bar_to_be_better_than(monkeypatch: pytest.MonkeyPatch) -> None:
    text = table(monkeypatch, [OURS], BARS)
    assert "3,000" in text
    assert "bar" not in text
    assert " x" not in text


def test_without_a_peer_a_bar_that_needs_none_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    text = table(monkeypatch, [OURS], {**BARS, "messages/s": Bar(3, at_most=5000)})
    assert "bar" in text
    assert "at most 5000: met" in text
    assert "3 x" not in text

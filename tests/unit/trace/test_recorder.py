"""What is recorded is bounded, costs nothing where it is off, and tells what it has lost."""

import msgspec
import pytest

from pillarbox.trace.events import Dropped, Fetched, Identified, Line
from pillarbox.trace.message_id import find_message_id
from pillarbox.trace.recorder import (
    LARGEST_EVENT,
    MOST_EVENTS,
    MOST_FETCHED,
    MOST_OCTETS,
    MOST_RANGES,
    Recorder,
    merged,
)


def taken(recorder: Recorder) -> list[tuple[int, object]]:
    return [msgspec.json.decode(line, type=Line) for line in recorder.take()[0]]


def test_events_carry_the_time_at_which_they_were_told() -> None:
    times = iter([1.5, 2.5])
    recorder = Recorder(is_on=True, clock=lambda: next(times))
    recorder.add(Identified("1", "a"))
    recorder.add(Identified("1", "b"))
    assert taken(recorder) == [
        (1_500_000, Identified("1", "a")),
        (2_500_000, Identified("1", "b")),
    ]
    assert not recorder.is_behind


def test_a_recorder_that_is_off_keeps_nothing() -> None:
    recorder = Recorder()
    recorder.add(Identified("1", "a"))
    recorder.fetched("1", "1.1.1", [(1, 1)])
    assert not recorder.is_behind


def test_what_waits_is_bounded_and_the_rest_is_counted() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    name = "x" * 60_000
    for _ in range(200):
        recorder.add(Identified("1", name))
    lines, count = recorder.take()
    assert sum(map(len, lines)) < MOST_OCTETS + 100
    assert count == 200
    dropped = msgspec.json.decode(lines[-1], type=Line)[1]
    assert dropped == Dropped(200 - (len(lines) - 1))
    assert not recorder.is_behind


def test_an_event_that_is_far_too_large_is_dropped() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    recorder.add(Identified("1", "x" * LARGEST_EVENT))
    assert [event for _, event in taken(recorder)] == [Dropped(1)]


def test_text_that_is_no_text_raises_nothing() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    recorder.add(Identified("1", "lone \ud800"))
    assert [event for _, event in taken(recorder)] == [Dropped(1)]


def test_what_could_not_be_written_is_counted_once() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    recorder.add(Identified("1", "a"))
    recorder.add(Identified("1", "x" * LARGEST_EVENT))
    for _ in range(3):
        recorder.lost(recorder.take()[1])
    assert [event for _, event in taken(recorder)] == [Dropped(2)]


def test_fetches_of_a_session_come_together() -> None:
    times = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    recorder = Recorder(is_on=True, clock=lambda: next(times))
    recorder.fetched("1", "1.1.1", [(1, 1)])
    recorder.fetched("1", "1.1.1", [(2, 2)])
    recorder.fetched("2", "1.1.1", [(9, 9)])
    recorder.fetched("1", "1.1.1", [(5, 7), (1, 1)])
    assert taken(recorder) == [
        (3_000_000, Fetched("1", "1.1.1", [(1, 2), (5, 7)], 1_000_000)),
        (4_000_000, Fetched("2", "1.1.1", [(9, 9)], 2_000_000)),
    ]


def test_fetches_that_are_gathered_are_bounded() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    for uid in range(1, 2 * MOST_FETCHED + 10, 2):
        recorder.fetched("1", "1.1.1", [(uid, uid)])
    assert len(recorder._fetched) <= 1
    events = [event for _, event in taken(recorder)]
    assert all(len(event.ranges) <= MOST_RANGES for event in events)
    assert sum(len(event.ranges) for event in events) == MOST_FETCHED + 5


def test_ranges_are_merged_and_cut() -> None:
    assert merged([(5, 5), (1, 2), (3, 3), (2, 2)]) == [(1, 3), (5, 5)]
    assert merged([]) == []


def test_many_ranges_become_some_events_and_no_more() -> None:
    recorder = Recorder(is_on=True, clock=lambda: 1.0)
    recorder.add_parts([(1, 1)] * (MOST_RANGES + 1), lambda part: Fetched("1", "1.1.1", part, 0))
    assert [len(event.ranges) for _, event in taken(recorder)] == [MOST_RANGES, 1]
    endless = [(1, 1)] * (MOST_RANGES * MOST_EVENTS + 1)
    recorder.add_parts(endless, lambda part: Fetched("1", "1.1.1", part, 0))
    events = [event for _, event in taken(recorder)]
    assert len(events) == MOST_EVENTS + 1
    assert events[-1] == Dropped(1)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Message-ID: <1@a>\r\n\r\n", "<1@a>"),
        (b"From: x\r\nMessage-ID: <1@a>\r\n\r\n", "<1@a>"),
        (b"From: x\r\nMESSAGE-id :  <1@a> \r\nTo: y\r\n\r\n", "<1@a>"),
        (b"From: x\r\nMessage-ID:\r\n <1@a>\r\n\r\n", "<1@a>"),
        (b"From: x\r\nIn-Reply-To: <2@a>\r\n\r\n", ""),
        (b"From: x\nMessage-ID: <1@a>\n\n", "<1@a>"),
        (b"From: x\r\nMessage-ID: \xff\r\n\r\n", "\ufffd"),
        (b"", ""),
    ],
)
def test_the_message_id_of_a_header(header: bytes, found: str) -> None:
    assert find_message_id(header) == found

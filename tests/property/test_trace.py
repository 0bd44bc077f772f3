"""What was recorded, cut over files and batches in any way, is told in the same order; and a message is followed
through any moves as a model follows it."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.trace.events import Copied, Event, Expunged, Fetched, Flagged, Identified
from pillarbox.trace.fate import follow, position
from pillarbox.trace.file import TraceFile, trace_path
from pillarbox.trace.reader import Entry, TraceReader
from pillarbox.trace.recorder import Recorder, merged


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.booleans(), st.text(max_size=20)), min_size=1, max_size=40
    )
)
def test_any_cut_of_events_gives_order_by_time(events: list[tuple[int, bool, str]]) -> None:
    """(worker, whether its batch ends here, a text) by time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            worker: TraceFile(trace_path(folder, worker), keep_us=10**15, most_octets=1 << 30)
            for worker in (1, 2, 3)
        }
        now = 0.0
        recorders = {worker: Recorder(is_on=True, clock=lambda: now) for worker in files}

        def write(worker: int) -> None:
            if recorders[worker].is_behind:
                files[worker].write(recorders[worker].take()[0], int(now * 1e6))

        for number, (worker, ends, text) in enumerate(events, 1):
            now = float(number)
            recorders[worker].add(Identified(f"needle{number}", text))
            if ends:
                write(worker)
        for worker in files:
            write(worker)
            files[worker].close()
        reader = TraceReader(folder)
        found = reader.find(["NEEDLE"])
        assert reader.problems == []
        assert [(entry.at, entry.event.connection, entry.event.name) for entry in found] == [
            (number * 1_000_000, f"needle{number}", text)
            for number, (_, _, text) in enumerate(events, 1)
        ]


_PLACES = ("1.1.9", "1.2.9", "2.1.9")
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(("copy", "move", "expunge", "flag", "fetch")),
        st.sampled_from(_PLACES),
        st.sampled_from(_PLACES),
        st.sets(st.integers(1, 12), min_size=1),
    ),
    max_size=30,
)


@given(_STEPS)
def test_a_message_is_followed_like_in_a_model(
    steps: list[tuple[str, str, str, set[int]]],
) -> None:
    """The model: which mailboxes have which messages, by UID; message 1 begins as UID 1 of the first."""
    mailboxes: dict[str, dict[int, int]] = {place: {} for place in _PLACES}
    mailboxes[_PLACES[0]] = {1: 1, 2: 2}
    uidnext = dict.fromkeys(_PLACES, 1) | {_PLACES[0]: 3}
    entries: list[Entry] = []
    touched = 0
    for number, (what, place, target, wanted) in enumerate(steps):
        uids = sorted(uid for uid in mailboxes[place] if uid in wanted)
        if not uids or (what in ("copy", "move") and target == place):
            continue
        is_touched = any(mailboxes[place][uid] == 1 for uid in uids)
        ranges = merged([(uid, uid) for uid in uids])
        event: Event
        if what in ("copy", "move"):
            event = Copied("c", place, ranges, target, target, uidnext[target], what == "move")
            for uid in uids:
                mailboxes[target][uidnext[target]] = mailboxes[place][uid]
                uidnext[target] += 1
        elif what == "flag":
            event = Flagged("c", place, ranges, "+", [f"flag{number}"])
        elif what == "fetch":
            event = Fetched("c", place, ranges, number)
        else:
            event = Expunged("c", place, ranges, "EXPUNGE")
        if what in ("move", "expunge"):
            for uid in uids:
                del mailboxes[place][uid]
        entries.append(Entry(number, event, "run"))
        touched += is_touched
    fate = follow({(_PLACES[0], 1): "INBOX"}, entries)
    where = {
        (place, uid) for place, held in mailboxes.items() for uid, each in held.items() if each == 1
    }
    assert set(fate.now) == where
    assert len(fate.entries) == touched


@given(st.sets(st.integers(1, 60)), st.integers(1, 60))
def test_the_position_in_ranges_is_that_in_the_list(uids: set[int], uid: int) -> None:
    ordered = sorted(uids)
    ranges = merged([(each, each) for each in ordered])
    assert position(ranges, uid) == (ordered.index(uid) if uid in uids else -1)

"""What is counted: rows of numbers that can be added, histograms with fixed limits, and the slowest commands."""

from pillarbox.core import tally
from pillarbox.core.tally import (
    FAMILIES,
    MOST_SLOW,
    PLACES,
    ROW_CELLS,
    SLOW_FOR_S,
    Histogram,
    SlowCommand,
    SlowCommands,
    Tally,
    result_of,
)


def test_a_row_has_a_place_for_each_number_of_each_family() -> None:
    places = [place for attribute in FAMILIES for _, place in PLACES[attribute]]
    covered = [cell for place in places for cell in range(place.start, place.stop)]
    assert covered == list(range(ROW_CELLS)) == list(range(len(Tally().numbers())))


def test_a_count_stands_where_its_labels_say() -> None:
    counted = Tally()
    counted.messages["lmtp", "rejected"] += 3
    counted.commands["pop3"].observe(0.3)
    counted.stored += 7
    row = counted.numbers()
    found = {key: row[place] for key, place in PLACES["messages"]}
    assert found[("lmtp", "rejected")] == [3]
    assert sum(sum(numbers) for numbers in found.values()) == 3
    (numbers,) = (row[place] for key, place in PLACES["commands"] if key == ("pop3",))
    assert numbers[-1] == 0.3
    assert sum(numbers[:-1]) == 1
    assert [row[place] for _, place in PLACES["stored"]] == [[7]]


def test_names_and_labels_are_those_of_prometheus() -> None:
    for family in FAMILIES.values():
        assert family.name.startswith("pillarbox_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.name.endswith("_seconds") == (family.kind == "histogram")
        assert list(family.limits) == sorted(set(family.limits))
        assert len(family.combinations()) <= 20, "labels have few values"


def test_what_equals_a_limit_is_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 7.5


def test_the_slowest_commands_are_kept_and_old_ones_forgotten() -> None:
    slow = SlowCommands()
    for number in range(3 * MOST_SLOW):
        slow.note(SlowCommand(100.0, float(number), 1, "imap SEARCH"))
    kept = sorted(one.seconds for one in slow.recent(101.0))
    assert kept == [float(number) for number in range(2 * MOST_SLOW, 3 * MOST_SLOW)]
    slow.note(SlowCommand(100.5 + SLOW_FOR_S, 0.2, 1, "imap FETCH"))
    assert [one.what for one in slow.recent(101.0 + SLOW_FOR_S)] == ["imap FETCH"]


def test_replies_have_results() -> None:
    assert [result_of(code) for code in (250, 251, 421, 452, 550)] == [
        "accepted",
        "accepted",
        "deferred",
        "deferred",
        "rejected",
    ]


def test_every_service_has_a_protocol_that_is_counted() -> None:
    assert set(tally.PROTOCOL_OF) == set(tally.SERVICES)
    assert set(tally.PROTOCOL_OF.values()) == set(tally.PROTOCOLS)

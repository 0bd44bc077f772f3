"""Counts that workers share."""

from pillarbox.core.slots import SlotCounts, keyed_mark


def test_each_worker_sees_what_the_others_count() -> None:
    table = memoryview(bytearray(3 * 16 * 2))
    first, second, third = (SlotCounts(table, 16, number) for number in (1, 2, 3))
    first.add(5, 1)
    first.add(5, 1)
    third.add(5, 1)
    assert (first.of_others(5), second.of_others(5), third.of_others(5)) == (1, 3, 2)
    assert (first.holders(5), second.holders(5), third.holders(5)) == ([3], [1, 3], [1])
    first.add(5, -1)
    first.add(5, -1)
    assert second.holders(5) == [3]
    assert second.of_others(4) == 0


def test_a_count_never_leaves_its_range() -> None:
    counts = SlotCounts(memoryview(bytearray(64)), 16, 1)
    counts.add(0, -1)
    other = SlotCounts(memoryview(bytearray(64)), 16, 2)
    assert other.of_others(0) == 0


def test_marks_are_the_same_for_those_who_know_the_secret() -> None:
    assert keyed_mark(b"a")("192.0.2.1") == keyed_mark(b"a")("192.0.2.1")
    assert keyed_mark(b"a")("192.0.2.1") != keyed_mark(b"b")("192.0.2.1")

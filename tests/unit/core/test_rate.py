"""Token buckets."""

from pillarbox.core import rate as rate_module
from pillarbox.core.rate import Rate


def test_so_many_at_once_and_then_so_many_a_minute() -> None:
    rate = Rate(3)
    assert [rate.take("a", 100.0) for _ in range(4)] == [True, True, True, False]
    assert not rate.take("a", 119.0)
    assert rate.take("a", 120.0)
    assert not rate.take("a", 120.0)
    assert [rate.take("a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_each_key_has_its_own() -> None:
    rate = Rate(1)
    assert rate.take("a", 0.0)
    assert rate.take("b", 0.0)
    assert not rate.take("a", 0.0)


def test_zero_is_no_limit() -> None:
    assert all(Rate(0).take("a", 0.0) for _ in range(1000))


def test_many_keys_have_room_and_the_one_not_seen_for_longest_goes_first(monkeypatch) -> None:
    monkeypatch.setattr(rate_module, "SLOTS", 8)
    rate = Rate(1)
    for number in range(7):
        assert rate.take(f"old{number}", float(number))
    assert rate.take("busy", 59.0)
    assert rate.take("new", 59.5)  # takes the place of old0
    assert not rate.take("busy", 60.0)
    assert not rate.take("old1", 60.0)
    assert rate.take("old0", 60.0)


def test_what_another_worker_took_counts() -> None:
    table = memoryview(bytearray(rate_module.TABLE_OCTETS))
    here, there = Rate(2, table), Rate(2, table)
    assert here.take("a", 1.0)
    assert there.take("a", 1.0)
    assert not here.take("a", 1.0)
    assert not there.take("a", 1.0)
    assert there.take("b", 1.0)


def test_a_full_table_of_keys_is_counted_exactly() -> None:
    """2,000 clients at once: hardly any of them shares a bucket."""
    rate = Rate(1)
    assert all(rate.take(f"192.0.2.{number}", 1.0) for number in range(2000))
    assert sum(rate.take(f"192.0.2.{number}", 1.0) for number in range(2000)) < 5

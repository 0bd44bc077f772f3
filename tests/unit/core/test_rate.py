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


def test_memory_is_bounded_and_what_is_forgotten_had_recovered_first(monkeypatch) -> None:
    monkeypatch.setattr(rate_module, "MOST_BUCKETS", 10)
    rate = Rate(1)
    for number in range(9):
        assert rate.take(f"old{number}", 0.0)
    assert rate.take("busy", 59.0)
    assert rate.take("new", 60.0)
    assert not rate.take("busy", 60.0)
    for number in range(100):
        assert rate.take(f"flood{number}", 60.0)
        assert len(rate._buckets) <= 10

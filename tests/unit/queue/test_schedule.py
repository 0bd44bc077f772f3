"""Retries, back-off and turns over virtual days (RFC 5321 §4.5.4.1)."""

from collections import Counter
from itertools import pairwise

import pytest

from pillarbox.queue.schedule import (
    DAY,
    HOUR,
    MINUTE,
    Destination,
    GiveUp,
    Pressure,
    Retry,
    Schedule,
    Waiting,
    after_delivery,
    after_failure,
    after_no_session,
    choose,
    group,
    wait_s,
)

SCHEDULE = Schedule()
PRESSURE = Pressure()


def attempts_until_the_end(schedule: Schedule, random: float) -> tuple[list[float], list[float]]:
    """When the attempts and the notices of delay were, for a host that is always down."""
    attempts, notices = [], []
    now = 1000.0
    while True:
        attempts.append(now - 1000)
        following = after_failure(
            schedule,
            created=1000,
            now=now,
            attempts=len(attempts),
            warned=bool(notices),
            random=lambda: random,
        )
        if isinstance(following, GiveUp):
            return attempts, notices
        if following.warn:
            notices.append(now - 1000)
        now = following.at


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
def test_five_days_of_retries(random: float) -> None:
    attempts, notices = attempts_until_the_end(SCHEDULE, random)
    assert sum(at <= HOUR for at in attempts) >= 6  # RFC 5321 §4.5.4.1 wants two
    assert attempts[1] <= 3 * MINUTE
    waits = [round(after - before) for before, after in pairwise(attempts)]
    assert waits[:-1] == sorted(waits[:-1])
    assert max(waits) <= 2 * HOUR
    assert attempts[-1] == 5 * DAY
    assert 60 <= len(attempts) <= 90
    assert len(notices) == 1
    assert 4 * HOUR <= notices[0] <= 6 * HOUR


def test_no_notice_of_delay_where_none_is_wanted() -> None:
    assert attempts_until_the_end(Schedule(warn_after_s=0), 0.5)[1] == []


def test_jitter_parts_what_failed_together() -> None:
    waits = {wait_s(SCHEDULE, 4, lambda value=value: value) for value in (0.0, 0.3, 0.9)}
    assert len(waits) == 3
    assert max(waits) <= 1.25 * min(waits)


def test_very_many_attempts_do_not_overflow() -> None:
    assert wait_s(SCHEDULE, 10**9, lambda: 0.0) == 2 * HOUR
    dead = Destination(2, failures=10**9)
    assert after_no_session(dead, PRESSURE, 5.0, lambda: 0.0).paused_until == 5 + 30 * MINUTE


def test_a_retry_after_downtime_longer_than_the_lifetime_is_the_last() -> None:
    late = after_failure(
        SCHEDULE, created=0, now=9 * DAY, attempts=1, warned=False, random=lambda: 0.0
    )
    assert late == GiveUp()
    assert after_failure(
        SCHEDULE, created=0, now=5 * DAY - 1, attempts=1, warned=True, random=lambda: 0.0
    ) == Retry(5 * DAY, False)


def test_a_good_destination_gets_more_sessions_up_to_the_limit() -> None:
    destination = Destination(PRESSURE.first_sessions)
    seen = []
    for _ in range(30):
        seen.append(destination.room(0, now=0))
        destination = after_delivery(destination, PRESSURE)
    assert seen[:3] == [2, 3, 4]
    assert seen[-1] == PRESSURE.most_sessions
    assert destination.room(18, now=0) == 2
    assert destination.room(99, now=0) == 0


def test_a_dead_destination_is_probed_by_one_session_after_growing_pauses() -> None:
    destination = Destination(8)
    now, pauses = 0.0, []
    for _ in range(8):
        destination = after_no_session(destination, PRESSURE, now, lambda: 0.0)
        assert destination.room(0, now) == 0
        pauses.append(destination.paused_until - now)
        now = destination.paused_until
        assert destination.room(0, now) == 1
        assert destination.room(1, now) == 0
    assert pauses == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    revived = after_delivery(destination, PRESSURE)
    assert revived == Destination(2)
    assert revived.room(0, now) == 2


def test_sessions_that_fail_together_count_once() -> None:
    once = after_no_session(Destination(8), PRESSURE, 0.0, lambda: 0.5)
    assert after_no_session(once, PRESSURE, 1.0, lambda: 0.5) == once


def test_senders_take_turns() -> None:
    due = [Waiting(f"bulk{n}", "bulk", float(n), 0) for n in range(1000)]
    due.append(Waiting("single", "tim", 5000.0, 0))
    assert choose(due, 4) == ["bulk0", "single", "bulk1", "bulk2"]


def test_old_mail_first_with_a_share_for_new_mail() -> None:
    due = [Waiting(f"old{n}", "a", float(n), 3) for n in range(9)]
    due += [Waiting(f"new{n}", "b", 100.0 + n, 0) for n in range(9)]
    assert choose(due, 6) == ["old0", "new0", "old1", "new1", "old2", "new2"]
    kinds = Counter(key[:3] for key in choose(due, 8, new_share=0.25))
    assert kinds == {"old": 6, "new": 2}
    assert choose(due, 2, new_share=0.0) == ["old0", "old1"]
    assert choose(due, 2, new_share=1.0) == ["new0", "new1"]


def test_places_that_are_not_needed_go_to_the_other_kind() -> None:
    new = [Waiting(f"new{n}", "b", float(n), 0) for n in range(3)]
    old = [Waiting(f"old{n}", "b", float(n), 1) for n in range(3)]
    assert choose(new, 9, new_share=0.1) == ["new0", "new1", "new2"]
    assert choose(old, 9, new_share=0.9) == ["old0", "old1", "old2"]
    assert len(choose([*new, *old[:1]], 9)) == 4


def test_recipients_are_grouped_by_message_and_hop() -> None:
    rows = [(1, "x", "a@x"), (2, "x", "b@x"), (1, "y", "c@y"), (1, "x", "d@x"), (1, "x", "e@x")]
    assert group(rows, most=2) == [
        ("x", ["a@x", "d@x"]),
        ("x", ["e@x"]),
        ("x", ["b@x"]),
        ("y", ["c@y"]),
    ]

"""The retry schedule and the turns over any values."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.queue.schedule import (
    Destination,
    GiveUp,
    Pressure,
    Schedule,
    Waiting,
    after_delivery,
    after_failure,
    after_no_session,
    choose,
    group,
)

fractions = st.floats(0, 0.999)


@settings(max_examples=60)
@given(
    st.floats(30, 3600),
    st.floats(1, 3),
    st.floats(3600, 20000),
    st.floats(0, 500_000),
    st.lists(fractions, min_size=1, max_size=5),
)
def test_every_recipient_comes_to_an_end(
    first_s: float, growth: float, longest_s: float, lifetime_s: float, randoms: list[float]
) -> None:
    schedule = Schedule(first_s, growth, longest_s, give_up_after_s=lifetime_s)
    now, attempts, notices = 0.0, 0, 0
    while True:
        attempts += 1
        random = randoms[attempts % len(randoms)]
        following = after_failure(
            schedule,
            created=0,
            now=now,
            attempts=attempts,
            warned=notices > 0,
            random=lambda random=random: random,
        )
        if isinstance(following, GiveUp):
            break
        notices += following.warn
        assert now < following.at <= now + longest_s
        now = following.at
    assert now == lifetime_s
    assert notices <= 1
    assert attempts <= lifetime_s / (first_s * 0.8) + 2


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5000), fractions), max_size=60))
def test_a_destination_is_never_forgotten_nor_flooded(
    events: list[tuple[bool, float, float]],
) -> None:
    pressure = Pressure()
    destination, now = Destination(pressure.first_sessions), 0.0
    for delivered, later, random in events:
        now += later
        if delivered:
            destination = after_delivery(destination, pressure)
        else:
            destination = after_no_session(destination, pressure, now, lambda random=random: random)
        assert 1 <= destination.sessions <= pressure.most_sessions
        assert destination.paused_until <= now + pressure.longest_pause_s
        assert destination.room(0, now + pressure.longest_pause_s) >= 1


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99), st.integers(0, 2)), max_size=40),
    st.integers(0, 50),
    st.floats(0, 1),
)
def test_a_choice_is_complete_and_fair(
    rows: list[tuple[str, int, int]], limit: int, new_share: float
) -> None:
    due = [Waiting(key, row[0], float(row[1]), row[2]) for key, row in enumerate(rows)]
    chosen = choose(due, limit, new_share=new_share)
    assert len(chosen) == len(set(chosen)) == min(limit, len(due))
    for kind in (True, False):
        mine = [due[key] for key in chosen if (due[key].attempts == 0) is kind]
        for sender in "abc":
            times = [one.created for one in mine if one.sender == sender]
            assert times == sorted(times)
            waiting = sum(one.sender == sender and (one.attempts == 0) is kind for one in due)
            others = max((sum(one.sender == other for one in mine) for other in "abc"), default=0)
            assert len(times) >= min(waiting, others - 1)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xy"), st.integers()), max_size=60),
    st.integers(1, 9),
)
def test_groups_lose_nobody(rows: list[tuple[int, str, int]], most: int) -> None:
    groups = group(rows, most)
    assert sorted(one for _, members in groups for one in members) == sorted(r[2] for r in rows)
    assert all(1 <= len(members) <= most for _, members in groups)

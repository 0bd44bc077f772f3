"""To how many recipients an account may send."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.queue.limits import DAY_S, HOUR_S, STEP_S, SendingLimits
from pillarbox.store.directory import Directory
from pillarbox.store.run import SentCounts


class Rig:
    def __init__(self, folder: Path) -> None:
        self.now = 1_790_000_000.0 // STEP_S * STEP_S
        self.directory = Directory(folder / "directory.db", clock=lambda: self.now)
        self.directory.add_domain("here.example")
        self.ann = self.directory.add_account("ann@here.example", "", "").id
        self.bob = self.directory.add_account("bob@here.example", "", "").id
        self.counts = [SentCounts(folder / "run.db") for _ in range(2)]
        self.limits, self.elsewhere = (
            SendingLimits(self.directory, counts, 10, 25, lambda: self.now)
            for counts in self.counts
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.directory.close()
    for counts in made.counts:
        counts.close()


def test_the_hour_and_the_day_have_limits(rig: Rig) -> None:
    assert rig.limits.take(rig.ann, 10)
    assert not rig.limits.take(rig.ann, 1)
    assert rig.limits.take(rig.bob, 10)
    rig.now += HOUR_S + STEP_S
    assert rig.limits.take(rig.ann, 10)
    rig.now += HOUR_S + STEP_S
    assert not rig.limits.take(rig.ann, 10)
    assert rig.limits.take(rig.ann, 5)
    assert not rig.limits.take(rig.ann, 1)
    rig.now += DAY_S + STEP_S
    assert rig.limits.take(rig.ann, 10)


def test_what_is_refused_does_not_count(rig: Rig) -> None:
    assert not rig.limits.take(rig.ann, 11)
    assert rig.limits.take(rig.ann, 10)


def test_never_more_than_the_limit_in_any_hour(rig: Rig) -> None:
    times = []
    for _ in range(500):
        if rig.limits.take(rig.ann, 1):
            times.append(rig.now)
        rig.now += 97
    for start in times:
        assert sum(start <= time < start + HOUR_S for time in times) <= 10
    assert len(times) == 25


def test_what_another_worker_sends_counts(rig: Rig) -> None:
    assert rig.limits.take(rig.ann, 6)
    assert not rig.elsewhere.take(rig.ann, 5)
    assert rig.elsewhere.take(rig.ann, 4)
    assert not rig.limits.take(rig.ann, 1)
    assert [rig.limits.is_news(rig.ann), rig.elsewhere.is_news(rig.ann)] == [True, False]


def test_an_account_may_have_limits_of_its_own(rig: Rig) -> None:
    rig.directory.set_sending_limits(rig.ann, 0, None)
    assert rig.limits.take(rig.ann, 25)
    assert not rig.limits.take(rig.ann, 1)
    rig.directory.set_sending_limits(rig.ann, 0, 0)
    assert rig.limits.take(rig.ann, 1_000_000)
    rig.directory.set_sending_limits(rig.bob, 3, None)
    assert not rig.limits.take(rig.bob, 4)


def test_it_is_news_once_until_mail_goes_again(rig: Rig) -> None:
    assert [rig.limits.is_news(rig.ann) for _ in range(3)] == [True, False, False]
    assert rig.limits.take(rig.ann, 1)
    assert rig.limits.is_news(rig.ann)

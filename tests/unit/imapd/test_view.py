"""Message numbers of a view (RFC 3501 §2.3.1.2), and the snapshots that views share."""

import gc
from array import array

import pytest

from pillarbox.imapd import view as views
from pillarbox.imapd.view import Snapshot, Snapshots, View

UIDS = [
    [],
    [1],
    [7],
    [1, 2, 3],
    [5, 6, 7, 8],
    [1, 3, 4, 9, 200],
    [3, 4, 5, 100, 4_294_967_295],
]


@pytest.mark.parametrize("uids", UIDS)
def test_a_number_is_the_place_among_the_uids_and_others_have_none(uids: list[int]) -> None:
    view = View(array("I", uids), 4_294_967_295, 1)
    for uid in {*uids, *(uid + 1 for uid in uids), *(uid - 1 for uid in uids), 0, 50}:
        assert view.number(uid) == (uids.index(uid) + 1 if uid in uids else 0)


@pytest.mark.parametrize("uids", UIDS)
def test_many_numbers_are_those_of_each(uids: list[int]) -> None:
    view = View(array("I", uids), 4_294_967_295, 1)
    wanted = list(reversed(uids))
    assert view.numbers(wanted) == [view.number(uid) for uid in wanted]


def test_a_mailbox_that_is_opened_again_is_not_read_again() -> None:
    snapshots = Snapshots()
    View(array("I", [1, 2, 4]), 5, 1).share(snapshots, 1, 1)
    gc.collect()
    assert snapshots.find(1, 1, 5, 3) == array("I", [1, 2, 4])
    assert snapshots.find(1, 1, 5, 2) is None  # something was expunged
    assert snapshots.find(1, 1, 6, 3) is None  # something came


def test_snapshots_that_nobody_holds_are_kept_within_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "KEPT_UIDS", 10)
    snapshots = Snapshots()
    for mailbox in range(1, 5):
        snapshots.share(1, mailbox, Snapshot(array("I", range(1, 5)), 5))
    held = snapshots.share(1, 9, Snapshot(array("I", range(1, 100)), 100))
    gc.collect()
    assert [snapshots.find(1, mailbox, 5, 4) is not None for mailbox in range(1, 5)] == [False] * 4
    assert snapshots.find(1, 9, 100, 99) is held.uids  # a session has it
    snapshots.share(1, 1, Snapshot(array("I", range(1, 5)), 5))
    gc.collect()
    assert snapshots.find(1, 1, 5, 4) is not None

"""Ranges of UIDs, PARTIAL and runs against plain sets (RFC 7162 §3.2.5, RFC 9394 §3.1, RFC 5267 §3.2)."""

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.imap.seqset import Runs, parse_seqset
from pillarbox.imap.syntax_return import Partial
from pillarbox.imap.syntax_select import Resync
from pillarbox.imapd import resync
from pillarbox.imapd.view import View
from pillarbox.store.messages import to_ranges

NUMBERS = st.sets(st.integers(1, 40))


def ranges_of(numbers):
    return to_ranges(sorted(numbers))


def numbers_of(ranges):
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(NUMBERS, NUMBERS)
def test_ranges_are_sets(one, other):
    both, less = ranges_of(one), ranges_of(other)
    assert resync.intersect(both, less) == ranges_of(one & other)
    assert resync.subtract(both, less) == ranges_of(one - other)
    view = View(array("I", sorted(other)), 41, 1)
    assert resync.without(both, view) == ranges_of(one - other)


@given(NUMBERS, NUMBERS, st.data())
def test_a_client_knows_of_expunges_up_to_its_last_pair_that_is_still_so(had, gone, data):
    """RFC 7162 §3.2.5.2: the pairs are from an earlier state of the mailbox."""
    before = sorted(had)
    sample = data.draw(st.sets(st.integers(1, len(before))) if before else st.just(set()))
    pairs = {number: before[number - 1] for number in sample}
    view = View(array("I", sorted(had - gone)), 41, 1)
    known = Resync(1, 1, None, tuple(ranges_of(pairs)), tuple(ranges_of(pairs.values())))
    good = [uid for number, uid in pairs.items() if view.number(uid) == number]
    assert resync.known_up_to(view, known) == max(good, default=0)


@given(st.lists(st.integers(1, 9)), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_partial_is_a_window_from_either_end(found, one, other, from_end):
    first, last = sorted((one, other))
    part = found[Partial(first, last, from_end, b"").slice_of(len(found))]
    if from_end:
        assert part == found[::-1][first - 1 : last][::-1]
    else:
        assert part == found[first - 1 : last]


@given(st.lists(st.lists(st.integers(1, 50))))
def test_runs_keep_the_order_and_join_what_ascends(parts):
    runs = Runs()
    text = b"".join([runs.add(part) for part in parts]) + runs.rest()
    numbers = [number for part in parts for number in part]
    told = []
    for piece in text.split(b",") if text else []:
        (pair,) = parse_seqset(piece).ranges
        told += range(pair[0], pair[1] + 1)
    assert told == numbers
    joins = sum(1 for one, two in pairwise(numbers) if two == one + 1)
    assert (text.count(b",") + 1 if text else 0) == len(numbers) - joins

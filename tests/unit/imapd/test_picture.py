"""What a client knows of mailboxes, and what it did itself (RFC 5465 §5)."""

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.imapd.picture import Picture, forget, put_own
from pillarbox.store.standing import NO_ENTRIES, Eyes, Standing


def row(modseq: int, rights: str = "lr") -> Standing:
    return Standing(("a",), 1, modseq, modseq, 0, modseq, "", rights, NO_ENTRIES)


ROWS = st.dictionaries(st.integers(1, 3), st.integers(1, 3).map(row))


@given(ROWS, ROWS, ROWS)
def test_ones_own_changes_hide_nothing_of_others(
    known: dict[int, Standing], before: dict[int, Standing], after: dict[int, Standing]
) -> None:
    picture = Picture(1, None, Eyes(), dict(known))
    put_own(picture, before, after)
    for number in {*known, *before, *after}:
        if known.get(number) == before.get(number):
            assert picture.rows.get(number) == after.get(number)
        else:
            assert picture.rows.get(number) == known.get(number)


def test_what_may_not_be_looked_up_is_not_in_a_picture() -> None:
    picture = Picture(1, None, Eyes(), {1: row(1)})
    put_own(picture, {1: row(1)}, {1: row(2, "r"), 2: row(1, "")})
    assert picture.rows == {}


def test_what_is_not_shared_any_more_is_gone() -> None:
    picture = Picture(1, None, Eyes(), {1: row(1)})
    changes: list = []
    forget(picture, changes)
    assert [(change.number, change.new, change.is_revoked) for change in changes] == [
        (1, None, True)
    ]
    assert picture.rows == {}

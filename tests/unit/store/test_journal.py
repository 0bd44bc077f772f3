"""Journal records: what is whole is read, what is torn or damaged ends the segment."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.errors import Unavailable
from pillarbox.store import journal
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import make_content


def record(number: int, octets: bytes = b"Subject: x\r\n\r\nbody", **options) -> bytes:
    return b"".join(framed(number, octets, **options))


def framed(number: int, octets: bytes = b"Subject: x\r\n\r\nbody", **options) -> journal.Framed:
    item = Append(1, make_content(octets), 77, **options)
    return journal.format_record(6, 9, item, Appended(1, 5, number, number + 100), 1234)


@given(
    octets=st.binary(max_size=500),
    keywords=st.lists(st.sampled_from([b"$a", b"Key"]), max_size=3).map(tuple),
    key=st.text(max_size=20),
    prefix=st.binary(max_size=50),
    flags=st.integers(0, 31),
)
def test_a_record_comes_back_as_it_was(octets, keywords, key, prefix, flags) -> None:
    written = record(3, octets, keywords=keywords, delivery_key=key, prefix=prefix, flags=flags)
    (found,) = journal.read_records(journal.MAGIC + written)
    assert found == journal.Record(
        6, 9, 1, 5, 3, 103, 77, 1234, flags, keywords, key, prefix, octets
    )


@given(cut=st.integers(0, 400), garbage=st.binary(max_size=40))
def test_a_torn_record_ends_the_segment_without_error(cut: int, garbage: bytes) -> None:
    whole = [record(number) for number in range(1, 4)]
    octets = journal.MAGIC + b"".join(whole)
    found = list(journal.read_records(octets[: len(octets) - cut] + garbage))
    expected = 0
    length = len(journal.MAGIC)
    for one in whole:
        length += len(one)
        expected += length <= len(octets) - cut
    assert [one.uid for one in found][:expected] == list(range(1, expected + 1))


@given(place=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_octet_is_noticed(place: int, value: int) -> None:
    octets = bytearray(journal.MAGIC + record(1))
    place %= len(octets)
    octets[place] ^= value
    assert list(journal.read_records(bytes(octets))) == []


def test_unused_room_behind_the_last_record_is_no_record() -> None:
    assert len(list(journal.read_records(journal.MAGIC + record(1) + bytes(5000)))) == 1


def test_a_full_disk_shows_before_anything_is_written(tmp_path: Path) -> None:
    class Full(journal.RealFiles):
        def open(self, path: Path) -> journal.JournalFile:
            raise OSError(28, "No space left on device")

    made = journal.Journal(tmp_path / "journal", "1", Full())
    with pytest.raises(Unavailable, match="full"):
        made.reserve(10)
    assert journal.segments(tmp_path / "journal") == []


def test_a_cut_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    made = journal.Journal(tmp_path / "journal", "1", journal.RealFiles())
    made.reserve(1000)
    made.write([framed(1)], {9})
    segment = made.cut()
    assert segment is not None
    assert segment.accounts == {9}
    made.reserve(1000)
    made.write([framed(2)], {9})
    uids = [
        [one.uid for one in journal.read_records(path.read_bytes())]
        for path in journal.segments(tmp_path / "journal")
    ]
    assert uids == [[1], [2]]
    made.remove(segment)
    assert len(journal.segments(tmp_path / "journal")) == 1


def test_records_that_are_written_in_several_pieces_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_PIECES", 3)
    pwritev = os.pwritev
    monkeypatch.setattr(  # now and then the system takes less than all
        os, "pwritev", lambda file, pieces, offset: pwritev(file, pieces[:1], offset)
    )
    written = journal.Journal(tmp_path, "1", journal.RealFiles())
    for first in (1, 8):
        records = [framed(number) for number in range(first, first + 7)]
        written.reserve(sum(map(journal.framed_size, records)))
        written.write(records, {9})
    assert written.used_octets == len(journal.MAGIC) + 14 * len(record(1))
    written.cut()
    (path,) = journal.segments(tmp_path)
    found = journal.read_records(path.read_bytes())
    assert [one.uid for one in found] == list(range(1, 15))

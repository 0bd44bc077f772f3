"""Journal records: what is whole is read, what is torn or damaged ends the segment."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.store import journal
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import make_content


def framed(
    number: int, octets: bytes = b"Subject: x\r\n\r\nbody", run: int = 6, **options
) -> journal.Framed:
    item = Append(1, make_content(octets), 77, **options)
    return journal.format_record(run, 9, item, Appended(1, 5, number, number + 100), 1234)


def written(*batches: list[journal.Framed]) -> tuple[bytearray, list[int]]:
    """A segment, each batch durable before the next; and where its records begin."""
    octets, starts = bytearray(journal.MAGIC), []
    for batch in batches:
        durable = len(octets)
        for one in batch:
            starts.append(len(octets))
            octets += journal.frame(one, len(octets), durable) + one[0] + one[1]
    return octets, starts


def segment(*numbers: int, **options) -> tuple[bytearray, list[int]]:
    return written(*([framed(number, **options)] for number in numbers))


def found_in(octets: bytes) -> tuple[list[int], int]:
    """UIDs, and how much is lost."""
    contents = journal.read_segment(bytes(octets))
    return [one.uid for one in contents.records], contents.lost_octets


@given(
    octets=st.binary(max_size=500),
    keywords=st.lists(st.sampled_from([b"$a", b"Key"]), max_size=3).map(tuple),
    key=st.text(max_size=20),
    prefix=st.binary(max_size=50),
    flags=st.integers(0, 31),
)
def test_a_record_comes_back_as_it_was(octets, keywords, key, prefix, flags) -> None:
    one = framed(3, octets, keywords=keywords, delivery_key=key, prefix=prefix, flags=flags)
    (found,) = journal.read_segment(bytes(written([one])[0])).records
    assert found == journal.Record(
        6, 9, 1, 5, 3, 103, 77, 1234, flags, keywords, key, prefix, octets
    )


@given(cut=st.integers(0, 400), garbage=st.binary(max_size=40))
def test_a_torn_record_ends_the_segment_without_error(cut: int, garbage: bytes) -> None:
    octets, starts = segment(1, 2, 3)
    end = len(octets) - cut
    whole = sum(place <= end for place in (*starts[1:], len(octets)))
    found, lost = found_in(bytes(octets[:end]) + garbage)
    assert found[:whole] == list(range(1, whole + 1))
    assert lost == 0 or end < len(journal.MAGIC)


@given(place=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_octet_is_noticed(place: int, value: int) -> None:
    octets, (start,) = segment(1)
    place = start + place % (len(octets) - start)
    octets[place] ^= value
    assert found_in(octets) == ([], 0), "it may have been written when the power went"


@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_damage_before_a_good_record_is_told_and_takes_one_record_only(
    place: int, value: int
) -> None:
    octets, starts = segment(1, 2, 3, 4)
    place %= starts[3]
    octets[place] ^= value
    ends = [*starts[1:], len(octets)]
    hit = [number for number, end in enumerate(ends, 1) if starts[number - 1] <= place < end]
    found, lost = found_in(octets + bytes(5000))
    assert found == [number for number in (1, 2, 3, 4) if number not in hit]
    assert lost == (ends[hit[0] - 1] - starts[hit[0] - 1] if hit else len(journal.MAGIC))


def test_a_lost_page_takes_the_records_on_it_only() -> None:
    octets, starts = segment(*range(1, 30), octets=b"Subject: x\r\n\r\n" + b"x" * 1000)
    octets[4096:8192] = bytes(4096)
    found, lost = found_in(octets)
    ends = [*starts[1:], len(octets)]
    hit = {n for n, end in enumerate(ends, 1) if starts[n - 1] < 8192 and end > 4096}
    assert found == [number for number in range(1, 30) if number not in hit]
    assert lost == max(ends[n - 1] for n in hit) - min(starts[n - 1] for n in hit)


def test_a_torn_last_write_is_no_damage_whatever_pages_of_it_came_to_the_disk() -> None:
    octets, starts = written([framed(1)], [framed(2), framed(3), framed(4)])
    octets[starts[2] : starts[3]] = bytes(starts[3] - starts[2])
    assert found_in(octets) == ([1, 2, 4], 0)
    after, _ = written([framed(1)], [framed(2), framed(3), framed(4)], [framed(5)])
    after[starts[2] : starts[3]] = bytes(starts[3] - starts[2])
    assert found_in(after) == ([1, 2, 4, 5], starts[3] - starts[2]), "it was durable"


@given(damaged=st.integers(0, 40), run=st.sampled_from([6, 7]))
def test_a_copy_of_a_journal_in_a_message_is_no_record(damaged: int, run: int) -> None:
    """Of this one or another; also where the frame around it is lost."""
    inner, _ = written([framed(66, run=run)], [framed(77, run=run)])
    octets, starts = written([framed(1, bytes(inner) * 5)], [framed(2)])
    octets[starts[0] + damaged] ^= 1
    assert 66 not in (found := found_in(octets)[0])
    assert 77 not in found
    assert 2 in found


def test_a_record_made_up_in_a_message_is_none_of_this_run() -> None:
    """Even if its place was guessed: nobody outside knows the run."""
    made_up = framed(66, run=7)
    before, _ = segment(1)
    place = len(before) + journal.framed_size(framed(2, b""))
    inner = journal.frame(made_up, place, len(before)) + made_up[0] + made_up[1]
    octets, starts = written([framed(1)], [framed(2, inner)], [framed(3)])
    assert octets.index(inner) == place
    octets[starts[1]] ^= 1
    assert found_in(octets) == ([1, 3], starts[2] - starts[1])


def test_a_segment_of_an_unknown_kind_is_not_taken_for_an_empty_one() -> None:
    octets, _ = segment(1)
    assert found_in(b"pillarbox journal 2\n" + b"x" * 100 + bytes(50)) == ([], 120)
    assert found_in(b"pillarbox journal 2\n" + octets[20:]) == ([1], 20)
    for begun in (b"", journal.MAGIC[:7], bytes(8192), journal.MAGIC, journal.MAGIC + b"torn"):
        assert found_in(begun) == ([], 0)


def test_unused_room_behind_the_last_record_is_no_record() -> None:
    assert found_in(segment(1)[0] + bytes(5000)) == ([1], 0)


def test_a_damaged_segment_is_kept_aside_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal" / "1-000001.log"
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    for _ in range(2):
        journal.keep_aside(path, 7)
    path.unlink()
    (kept,) = journal.kept_aside(tmp_path)
    assert kept.read_bytes() == b"damaged"
    assert len(caplog.records) == 1
    assert str(kept) in caplog.text


def test_the_run_of_a_segment_is_known_without_its_first_record(tmp_path: Path) -> None:
    octets, starts = segment(1, 2, run=77)
    octets[starts[0]] ^= 1
    path = tmp_path / "1-000001.log"
    path.write_bytes(octets)
    assert journal.run_of(path) == 77
    assert journal.run_of(tmp_path / "gone") == 0


def test_a_full_disk_shows_before_anything_is_written(tmp_path: Path) -> None:
    class Full(journal.RealFiles):
        def open(self, path: Path) -> journal.JournalFile:
            raise OSError(28, "No space left on device")

    made = journal.Journal(tmp_path / "journal", "1", Full())
    with pytest.raises(Unavailable, match="full"):
        made.reserve(10)
    assert journal.segments(tmp_path / "journal") == []


def test_a_journal_that_cannot_be_written_for_another_reason_does_not_say_that_the_disk_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class ReadOnly(journal.RealFiles):
        def open(self, path: Path) -> journal.JournalFile:
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    made = journal.Journal(tmp_path / "journal", "1", ReadOnly())
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            made.reserve(10)
        assert not isinstance(raised.value, DiskFull)
        assert raised.value.code == "UNAVAILABLE"
    assert caplog.text.count("Read-only file system") == 1


def test_a_cut_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    made = journal.Journal(tmp_path / "journal", "1", journal.RealFiles())
    made.reserve(1000)
    made.write([framed(1)], {9})
    segment = made.cut()
    assert segment is not None
    assert segment.accounts == {9}
    made.reserve(1000)
    made.write([framed(2)], {9})
    uids = [found_in(path.read_bytes())[0] for path in journal.segments(tmp_path / "journal")]
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
    made = journal.Journal(tmp_path, "1", journal.RealFiles())
    for first in (1, 8):
        records = [framed(number) for number in range(first, first + 7)]
        made.reserve(sum(map(journal.framed_size, records)))
        made.write(records, {9})
    assert made.used_octets == len(journal.MAGIC) + 14 * journal.framed_size(framed(1))
    made.cut()
    (path,) = journal.segments(tmp_path)
    assert found_in(path.read_bytes()) == (list(range(1, 15)), 0)

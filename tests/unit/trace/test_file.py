"""The files: bounded by age and size, set aside when damaged, begun anew when deleted."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from pillarbox.trace.events import Dropped, Identified
from pillarbox.trace.file import DAY_US, TRIM_EVERY, TraceFile, is_trace, trace_path
from pillarbox.trace.reader import TraceReader, lines_with, needle_of
from pillarbox.trace.recorder import Recorder


def lines(*names: str, at: float = 1000.0) -> list[bytes]:
    recorder = Recorder(is_on=True, clock=lambda: at)
    for name in names:
        recorder.add(Identified("1", name))
    return recorder.take()[0]


def open_file(folder: Path, most_octets: int = 1 << 30, keep_us: int = DAY_US) -> TraceFile:
    return TraceFile(trace_path(folder, 1), keep_us=keep_us, most_octets=most_octets)


def names(folder: Path, text: str = "n") -> list[str]:
    reader = TraceReader(folder)
    found = [entry.event.name for entry in reader.find([text])]
    assert reader.problems == []
    return found


def test_what_is_written_is_found_also_while_the_file_is_open(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.write(lines("n1", "N2"), 1)
    assert names(tmp_path) == ["n1", "N2"]
    assert names(tmp_path, "n2") == ["N2"]
    file.close()
    assert names(tmp_path) == ["n1", "N2"]
    assert trace_path(tmp_path, 1).stat().st_mode & 0o777 == 0o600


def test_old_batches_go(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.write(lines("n-old"), 0)
    for _ in range(TRIM_EVERY):
        file.write(lines("n-new"), 2 * DAY_US)
    assert set(names(tmp_path)) == {"n-new"}


def test_old_batches_go_also_where_nothing_new_comes(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.tidy(0)
    assert not file.path.exists()
    file.write(lines("n-old"), 0)
    file.tidy(DAY_US)
    assert names(tmp_path) == ["n-old"]
    file.tidy(2 * DAY_US)
    assert names(tmp_path) == []


def test_files_of_workers_that_are_no_more_go_when_they_are_old(tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    for name in ("trace-1.db", "trace-2.db", "trace-3.db", "trace-3.db-wal", "trace-1.db.old"):
        (tmp_path / name).touch()
    file = TraceFile(trace_path(tmp_path, 1), keep_us=DAY_US, most_octets=1 << 30, workers=2)
    file.tidy(now)
    assert len(list(tmp_path.glob("trace-*"))) >= 5
    file.tidy(now + 2 * DAY_US)
    left = {path.name for path in tmp_path.glob("trace-*")}
    assert "trace-2.db" in left
    assert not left & {"trace-3.db", "trace-3.db-wal", "trace-1.db.old"}


def test_the_file_stays_within_its_size_and_keeps_the_latest(tmp_path: Path) -> None:
    most = 1 << 20
    file = open_file(tmp_path, most)
    for number in range(40 * TRIM_EVERY):
        file.write(lines(f"n{number} " + "x" * 2000), 1)
    file.close()
    assert trace_path(tmp_path, 1).stat().st_size < 1.5 * most
    found = names(tmp_path)
    assert found[-1].startswith(f"n{40 * TRIM_EVERY - 1} ")
    assert 200 < len(found) < 1000


def test_a_file_that_became_too_large_by_configuration_shrinks(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    for _ in range(40):
        file.write(lines("n" + "x" * 50_000), 1)
    file.close()
    before = trace_path(tmp_path, 1).stat().st_size
    file = open_file(tmp_path, 1 << 20)
    file.write(lines("n"), 1)
    file.close()
    assert trace_path(tmp_path, 1).stat().st_size < before * 0.7


@pytest.mark.parametrize("suffixes", [("",), ("-wal",), ("", "-wal", "-shm")])
def test_deleting_the_file_while_it_is_open_begins_a_new_one(
    tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    file = open_file(tmp_path)
    file.write(lines("n1"), 1)
    for suffix in suffixes:
        Path(f"{file.path}{suffix}").unlink()
    file.write(lines("n2"), 1)
    file.close()
    assert names(tmp_path)[-1:] == ["n2"]


@pytest.mark.parametrize("octets", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, octets: bytes) -> None:
    path = trace_path(tmp_path, 1)
    path.write_bytes(octets)
    file = open_file(tmp_path)
    file.write(lines("n1"), 1)
    assert names(tmp_path) == ["n1"]
    assert Path(f"{path}.old").exists() == bool(octets)


def test_damage_that_is_met_later_costs_the_file_only(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    for _ in range(50):
        file.write(lines("n" + "x" * 5000), 1)
    file.close()
    with file.path.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * 100_000)
    file = open_file(tmp_path)
    for _ in range(3):
        try:
            file.write(lines("n-after"), 1)
        except apsw.Error:
            continue
    assert names(tmp_path)[-1] == "n-after"


def test_a_file_of_another_version_is_set_aside(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.write(lines("n1"), 1)
    file.close()
    connection = apsw.Connection(str(file.path))
    connection.pragma("user_version", 99)
    connection.close()
    reader = TraceReader(tmp_path)
    assert reader.find(["n1"]) == []
    assert "another version" in reader.problems[0]
    file.write(lines("n2"), 1)
    assert names(tmp_path) == ["n2"]


def test_a_file_that_cannot_grow_fails_and_goes_on_when_it_can(tmp_path: Path) -> None:
    """A limit on file size stands for the disk."""
    script = f"""
import resource, signal
from pathlib import Path
from pillarbox.trace.file import TraceFile
import apsw
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = TraceFile(Path({str(trace_path(tmp_path, 1))!r}), keep_us=10**15, most_octets=1 << 30)
line = {lines("n" + "x" * 5000)[0]!r}
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
failed = 0
for _ in range(300):
    try:
        file.write([line], 1)
    except (apsw.Error, OSError):
        failed += 1
assert failed > 100, failed
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write([line], 1)
file.close()
"""
    assert resource.RLIM_INFINITY == -1
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(names(tmp_path)) > 10


def test_lines_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    file.write([b'[1,["unheard-of","n1",7]]', b'[2,{"n2":1}]'], 1)
    file.write(lines("n3"), 1)
    assert names(tmp_path) == ["n3"]


def test_what_was_set_aside_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "trace-1.db.old").write_bytes(b"x")
    assert TraceReader(tmp_path).paths == []
    assert [is_trace(name) for name in ("trace-1.db", "trace-12.db-wal", "trace-1.db.old")] == [
        True,
        True,
        True,
    ]
    assert not is_trace("queue.db")


def test_lines_are_found_in_any_case_and_each_once() -> None:
    text = b'["a","One two"]\n["b","ONE"]\n["c","three"]'
    assert lines_with(text, text.lower(), [b"one", b"two"]) == [b'["a","One two"]', b'["b","ONE"]']
    assert lines_with(text, text, [b"One"]) == [b'["a","One two"]']
    assert lines_with(text, text, [b"three"]) == [b'["c","three"]']
    assert lines_with(b"", b"", [b"x"]) == []
    assert needle_of('a"b') == b'a\\"b'
    assert needle_of("A", whole=True) == b'"A"'


def test_dropped_events_are_kept_as_such(tmp_path: Path) -> None:
    recorder = Recorder(is_on=True, clock=lambda: 5.0)
    recorder.lost(3)
    file = open_file(tmp_path)
    file.write(recorder.take()[0], 1)
    (entry,) = TraceReader(tmp_path).find(["dropped"])
    assert entry.event == Dropped(3)

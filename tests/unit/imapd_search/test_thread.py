"""THREAD's two algorithms, step by step (RFC 5256 §3)."""

import time

import pytest

from pillarbox.imapd.thread import Row, format_threads, ordered_subject, references


def row(uid: int, sent: int = 0, subject: str = "", message_id: int = 0, *refs: int) -> Row:
    """`subject` with "re:" in front is a reply. Without a sent date, messages are sent in order of their UIDs."""
    base = subject.removeprefix("re:")
    return Row(uid, sent or uid, base, base != subject, message_id, refs)


def threaded(*rows: Row) -> str:
    return b"".join(format_threads(references(rows), lambda uid: uid, 3)).decode().strip()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], ""),
        ([row(1), row(2)], "(1)(2)"),
        ([row(1, 0, "", 101), row(2, 0, "", 102, 101), row(3, 0, "", 103, 101, 102)], "(1 2 3)"),
        ([row(1, 0, "", 101), row(2, 0, "", 0, 101), row(3, 0, "", 0, 101)], "(1 (2)(3))"),
        # siblings and threads go by sent date, not by number
        ([row(1, 9, "", 101), row(2, 8, "", 0, 101), row(3, 7, "", 0, 101)], "(1 (3)(2))"),
        ([row(1, 9), row(2, 8), row(3, 8)], "(2)(3)(1)"),
        # a missing parent of two is a dummy, of one it goes
        ([row(1, 0, "", 101, 100), row(2, 0, "", 102, 100)], "((1)(2))"),
        ([row(1, 0, "", 101, 100)], "(1)"),
        # dummies within a thread are spliced out
        ([row(1, 0, "", 101), row(2, 0, "", 102, 101, 150)], "(1 2)"),
        (
            [row(1, 0, "", 101), row(2, 0, "", 0, 101, 150), row(3, 0, "", 0, 101, 150)],
            "(1 (2)(3))",
        ),
        ([row(1, 0, "", 0, 100, 150), row(2, 0, "", 0, 100, 150)], "((1)(2))"),
        # what a later message says of earlier ones counts
        (
            [row(1, 0, "", 101), row(2, 0, "", 102), row(3, 0, "", 0, 101, 102), row(4, 0, "", 0)],
            "(1 2 3)(4)",
        ),
        # what an earlier one says of a message is undone by what that says of itself
        (
            [
                row(1, 0, "", 0, 101, 102),
                row(2, 0, "", 101),
                row(3, 0, "", 102, 103),
                row(4, 0, "", 103),
            ],
            "(2)(4 3 1)",
        ),
        ([row(1, 0, "", 0, 101, 102), row(2, 0, "", 101), row(3, 0, "", 102)], "(2)(3 1)"),
        # the first of two messages with one Message-ID has it
        ([row(1, 0, "", 101), row(2, 0, "", 101), row(3, 0, "", 0, 101)], "(1 3)(2)"),
        # no loops
        ([row(1, 0, "", 101, 102), row(2, 0, "", 102, 101)], "(2 1)"),
        ([row(1, 0, "", 101, 101)], "(1)"),
        ([row(1, 0, "", 101, 102, 101), row(2, 0, "", 102, 101, 102)], "(1)(2)"),
    ],
)
def test_references_link_messages(rows: list[Row], expected: str) -> None:
    assert threaded(*rows) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # a reply goes below the message that is none
        ([row(1, 0, "tea"), row(2, 0, "re:tea")], "(1 2)"),
        ([row(1, 0, "re:tea"), row(2, 0, "tea")], "(2 1)"),
        ([row(1, 0, "re:tea"), row(2, 0, "tea"), row(3, 0, "re:tea")], "(2 (1)(3))"),
        # two of a kind get a dummy parent
        ([row(1, 0, "tea"), row(2, 0, "tea")], "((1)(2))"),
        ([row(1, 0, "re:tea"), row(2, 0, "re:tea"), row(3, 0, "re:tea")], "((1)(2)(3))"),
        ([row(1, 0, "tea"), row(2, 0, "re:tea"), row(3, 0, "tea")], "((1 2)(3))"),
        # empty subjects are not gathered
        ([row(1), row(2, 0, "re:")], "(1)(2)"),
        # with dummies: the dummy takes the others in
        (
            [row(1, 0, "tea", 0, 100), row(2, 0, "re:tea", 0, 100), row(3, 0, "tea")],
            "((1)(2)(3))",
        ),
        (
            [row(3, 1, "tea"), row(1, 2, "tea", 0, 100), row(2, 3, "re:tea", 0, 100)],
            "((3)(1)(2))",
        ),
        (
            [
                row(1, 0, "tea", 0, 100),
                row(2, 0, "x", 0, 100),
                row(3, 0, "tea", 0, 200),
                row(4, 0, "y", 0, 200),
            ],
            "((1)(2)(3)(4))",
        ),
        # only threads' first messages count
        ([row(1, 0, "tea", 101), row(2, 0, "milk", 0, 101), row(3, 0, "milk")], "(1 2)(3)"),
    ],
)
def test_threads_with_one_subject_are_gathered(rows: list[Row], expected: str) -> None:
    assert threaded(*rows) == expected


def test_ordered_subject_has_no_grandchildren() -> None:
    rows = [row(1, 5, "b"), row(2, 4, "a"), row(3, 3, "re:b"), row(4, 9, "a"), row(5, 6, "b")]
    threads = b"".join(format_threads(ordered_subject(rows), lambda uid: uid, 1))
    assert threads == b" (3 (1)(5))(2 4)"


def test_threads_are_written_as_in_the_rfc() -> None:
    """RFC 5256 §4"""
    rows = [
        row(2, 0, "", 2),
        row(3, 0, "", 3),
        row(4, 0, "", 4, 3, 6),
        row(6, 0, "", 6, 3),
        row(7, 0, "", 7, 3, 6, 44),
        row(23, 0, "", 23, 6, 4),
        row(44, 0, "", 44, 6),
        row(96, 0, "", 96, 44, 7),
    ]
    assert threaded(*rows) == "(2)(3 6 (4 23)(44 7 96))"
    assert threaded(row(3, 0, "", 0, 1), row(5, 0, "", 0, 1)) == "((3)(5))"


def _chain(count: int) -> list[Row]:
    return [row(n, n, "", 1000 + n, 999 + n) for n in range(1, count + 1)]


def _upwards(count: int) -> list[Row]:
    """Each link is made before the one above it."""
    return [row(n, n, "", 1000 + n, 1001 + n) for n in range(1, count + 1)]


def _under_a_long_chain(count: int) -> list[Row]:
    """Many messages with children come below a chain, where finding a loop takes long."""
    chain = [row(n, n, "", 1000 + n, 1001 + n) for n in range(1, count // 2)]
    ends = [row(count + n, n, "", 0, 500_000 + n, 600_000 + n) for n in range(1, count // 4)]
    joins = [row(2 * count + n, n, "", 500_000 + n, 1001) for n in range(1, count // 4)]
    return chain + ends + joins


@pytest.mark.parametrize("make", [_chain, _upwards, _under_a_long_chain])
def test_threading_takes_linear_time_and_no_recursion(make) -> None:
    rows = make(20_000)
    start = time.process_time()
    line = b"".join(format_threads(references(rows), lambda uid: uid, 1000))
    assert time.process_time() - start < 3
    assert line.count(b"(") == line.count(b")")


def test_one_subject_in_all_messages_takes_linear_time() -> None:
    for subject in ("tea", "re:tea"):
        rows = [row(n, n, subject) for n in range(1, 20_001)]
        start = time.process_time()
        (thread,) = references(rows)
        assert time.process_time() - start < 3
        assert len(thread.children) == 20_000

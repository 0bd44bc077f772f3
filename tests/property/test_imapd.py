"""Model tests: message numbers against a naive list, and several sessions against the store."""

import asyncio
import re
import sys
import tempfile
from array import array
from itertools import chain
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import tries

from pillarbox.imapd import telling
from pillarbox.imapd.modes import Modes
from pillarbox.imapd.names import from_wire, to_wire
from pillarbox.imapd.pattern import Pattern
from pillarbox.imapd.view import View
from pillarbox.store import changes

sys.path.insert(0, str(Path(__file__).parents[1] / "service" / "imapd"))
from imap_harness import SIMPLE, Line, serving

COMPONENTS = st.text("ab.^/25EF", min_size=1, max_size=6)


@given(st.lists(COMPONENTS, min_size=1, max_size=4).map(tuple), st.sampled_from("./"))
def test_every_name_has_one_wire_form(name: tuple[str, ...], separator: str) -> None:
    assert from_wire(to_wire(name, separator), separator) == name


@given(st.text("ab.*%", max_size=8), st.text("ab.", max_size=8))
def test_a_pattern_matches_what_the_regular_expression_does(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^.]*"}.get(c, re.escape(c)) for c in pattern)
    assert Pattern(pattern, ".").matches(name) is (re.fullmatch(expression, name) is not None)


# The view against a list

CHANGE = st.tuples(
    st.sets(st.integers(0, 30)), st.integers(0, 4), st.sets(st.integers(0, 30)), st.booleans()
)


def ranges(uids: list[int]) -> list[tuple[int, int]]:
    return [(uid, uid) for uid in uids]


@settings(max_examples=150)
@given(st.lists(CHANGE, max_size=12))
def test_what_the_client_is_told_gives_the_view(
    steps: list[tuple[set[int], int, set[int], bool]],
) -> None:
    view = View(array("I"), 1, 0)
    told: list[int] = []  # the client's picture: the UID at each message number
    store: list[int] = []
    uidnext = 1
    for modseq, (gone_places, added, flagged_places, expunge) in enumerate(steps, 1):
        gone = [uid for place, uid in enumerate(store) if place in gone_places]
        store = [uid for uid in store if uid not in gone]
        flagged = [uid for place, uid in enumerate(store) if place in flagged_places]
        new = list(range(uidnext, uidnext + added))
        uidnext += added
        store += new
        view.vanish(ranges(gone))
        if expunge:
            for number in chain.from_iterable(view.expunge()):
                del told[number - 1]
        view.add(array("I", new), uidnext)
        told += new
        rows = [(uid, 0, modseq) for uid in flagged]
        responses = view.flag_responses(rows, lambda _: b"", Modes())
        assert [told[int(response.split()[1]) - 1] for response in responses] == flagged
        assert told == list(view.uids)
        assert [view.number(uid) for uid in told] == list(range(1, len(told) + 1))
        if expunge:
            assert told == store


# Sessions against the store


class Picture:
    """What one client knows, from nothing but what it was told."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.flags: list[set[bytes] | None] = []

    async def do(self, command: bytes, *, by_number: bool = False) -> None:
        *lines, last = await self.line.command(command)
        assert last.startswith((b"OK", b"NO [EXPUNGEISSUED]")), last
        for text in lines:
            self.hear(text, by_number)

    def hear(self, text: bytes, by_number: bool) -> None:
        match = re.fullmatch(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \((.*)\))?", text, re.DOTALL)
        if match is None:
            return
        number, word, rest = int(match[1]), match[2], match[3]
        if word == b"EXISTS":
            assert number >= len(self.flags)
            self.flags += [None] * (number - len(self.flags))
        elif word == b"EXPUNGE":
            assert not by_number, "EXPUNGE during a command with message numbers"
            del self.flags[number - 1]
        else:
            listed = re.search(rb"FLAGS \(([^)]*)\)", rest)
            if listed:
                self.flags[number - 1] = set(listed[1].split()) - {b"\\Recent"}


COMMANDS = (
    (b"STORE %d +FLAGS (\\Deleted)", True),
    (b"STORE %d +FLAGS (\\Seen)", True),
    (b"STORE %d FLAGS (\\Flagged)", True),
    (b"STORE %d:* -FLAGS (\\Seen)", True),
    (b"FETCH 1:%d BODY[TEXT]", True),
    (b"FETCH %d:* FLAGS", True),
    (b"UID FETCH %d:* FLAGS", False),
    (b"UID STORE %d:* +FLAGS.SILENT (word)", False),
    (b"EXPUNGE", False),
    (b"UID EXPUNGE %d:*", False),
    (b"COPY %d INBOX", False),
    (b"MOVE %d INBOX", False),
    (b"NOOP", False),
    (b"APPEND INBOX (\\Seen) {%d+}\r\n%b" % (len(SIMPLE), SIMPLE), False),
)

ACTION = st.tuples(st.integers(0, 2), st.sampled_from(COMMANDS), st.integers(0, 5))


@settings(max_examples=tries(15, 300), deadline=None)
@given(st.lists(ACTION, max_size=20))
def test_after_noop_every_session_sees_the_store(
    actions: list[tuple[int, tuple[bytes, bool], int]],
) -> None:
    sessions_see_the_store(actions)


@settings(max_examples=tries(15, 300), deadline=None)
@given(st.lists(ACTION, max_size=20), st.integers(0, 2), st.integers(1, 2))
def test_however_far_behind_and_however_small_the_slices(
    actions: list[tuple[int, tuple[bytes, bool], int]], most_rows: int, size: int
) -> None:
    with (
        patch.object(changes, "MOST_ROWS", most_rows),
        patch.object(changes, "SCANNED_UIDS", size),
        patch.object(changes, "SCANNED_RANGES", size),
        patch.object(telling, "UIDS_A_SLICE", size),
    ):
        sessions_see_the_store(actions)


def sessions_see_the_store(actions: list[tuple[int, tuple[bytes, bool], int]]) -> None:
    async def run(folder: Path) -> None:
        async with serving(folder) as imap:
            for _ in range(4):
                await imap.put(SIMPLE)
            sessions = []
            for _ in range(3):
                picture = Picture(await imap.login())
                await picture.do(b"SELECT INBOX")
                await picture.do(b"FETCH 1:* FLAGS", by_number=True)
                sessions.append(picture)
            for who, (command, by_number), place in actions:
                picture = sessions[who]
                if b"%d" in command:
                    if not picture.flags:
                        continue
                    command = command % (place % len(picture.flags) + 1)
                await picture.do(command, by_number=by_number)
                if b".SILENT" in command:  # what was set is the client's to know
                    await picture.do(b"UID FETCH 1:* FLAGS")
            for picture in sessions:
                await picture.do(b"NOOP")
            fresh = Picture(await imap.login())
            await fresh.do(b"SELECT INBOX")
            if fresh.flags:
                await fresh.do(b"FETCH 1:* FLAGS", by_number=True)
            for picture in sessions:
                known = [
                    flags if flags is not None else expected
                    for flags, expected in zip(picture.flags, fresh.flags, strict=True)
                ]
                assert known == fresh.flags

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))

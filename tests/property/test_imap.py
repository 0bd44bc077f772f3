"""The IMAP engine under any input: cutting changes nothing, nothing raises, memory stays bounded."""

import itertools
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.core.engine import Wait
from pillarbox.imap.events import (
    AppendAborted,
    AppendData,
    AppendEnd,
    AppendNext,
    AppendStart,
    AuthResponse,
    Command,
    CommandRefused,
    Event,
    IdleDone,
)
from pillarbox.imap.grammar import Cursor
from pillarbox.imap.limits import Limits
from pillarbox.imap.seqset import (
    MAX_NUMBER,
    format_ranges,
    format_seqset,
    number_slices,
    parse_seqset,
    uid_slices,
)
from pillarbox.imap.server import Server
from pillarbox.imap.syntax_append import Target
from pillarbox.imap.table import COMMANDS
from pillarbox.imap.utf7 import decode_utf7, encode_utf7, is_canonical

LIMITS = Limits(
    line=70,
    line_before_login=50,
    auth_line=20,
    literals=20,
    literals_before_login=12,
    literal_count=3,
    message=30,
    skipped_literal=60,
    bad_commands=6,
)


def respond(engine: Server, event: Event) -> None:
    """A service that likes most things."""
    match event:
        case Command(name="AUTHENTICATE", args=args) if (
            getattr(args, "initial_response", 0) is None
        ):
            engine.challenge(b"go on")
        case Command(name="IDLE"):
            engine.continue_idle()
            engine.send(b"* 3 EXISTS\r\n")
        case AppendStart(target=Target(mailbox="no")):
            engine.send_tagged(b"NO", "no", b"TRYCREATE")
        case AppendStart() | AppendNext():
            engine.continue_append()
        case AuthResponse(data=None, problem=problem):
            engine.send_tagged(b"BAD", problem)
        case IdleDone(valid=False):
            engine.send_tagged(b"BAD", "expected DONE")
        case Command() | AuthResponse() | IdleDone() | AppendEnd():
            engine.send_tagged(b"OK", "done")
        case AppendData() | AppendAborted() | CommandRefused():
            pass


def converse(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """The events, with APPEND's data in one, and all output."""
    engine = Server(LIMITS, tls=True)  # STARTTLS depends, as it must, on what has arrived when
    events: list[str] = []
    message = b""
    output = b""
    for piece in [*pieces, b""]:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            if isinstance(event, AppendData):
                assert event.chunk
                message += event.chunk
            else:
                events.append(f"{message!r} {event!r}")
                message = b""
            respond(engine, event)
        # One line, or a literal, may wait; the end of an overlong line is looked at.
        assert engine._framer.buffered <= 80 or engine.closing
        output += b"".join(engine.data_to_send())
    return events, output


LINES = [
    b"a NOOP", b"b LOGIN x y", b"c SELECT inbox", b"d UID FETCH 1:* (FLAGS BODY[TEXT]<0.5>)", b"e IDLE", b"DONE",
    b"f AUTHENTICATE PLAIN", b"f AUTHENTICATE PLAIN eA==", b"Z28gb24=", b"*", b"g FOO", b"", b"h APPEND x {5}",
    b"h APPEND no {5+}", b"h APPEND x (\\Seen) {7+}", b"h APPEND x {31+}", b"h APPEND x {31}", b"h APPEND {1+}",
    b"x {5+}", b" (\\Seen) {5+}", b"12345 {5+}", b"o APPEND x CATENATE (TEXT {5+}", b"12345 URL {2+}", b"12345)",
    b"UR TEXT {1+}", b"p UID REPLACE 1 x {5+}", b"q APPEND x UTF8 (~{5+}",
    b"12345", b"abcde\r\nf", b"i LOGIN {1}", b"j SELECT {13+}", b"j SELECT {21+}", b"{70+}", b"k CLOSE",
    b"l SEARCH OR SEEN {3}", b"x" * 69, b"x" * 70, b"x" * 71, b"x" * 100 + b"{9+}", b"m LOGOUT", b'n LIST "" *',
]  # fmt: skip

streams = st.lists(
    st.tuples(st.sampled_from(LINES), st.sampled_from([b"\r\n", b"\r\n", b"\n", b"", b" "])).map(
        b"".join
    )
    | st.binary(max_size=12),
    max_size=25,
).map(lambda lines: b"a LOGIN x y\r\nb SELECT x\r\n" * (len(lines) % 2) + b"".join(lines))


@settings(max_examples=150, deadline=None)
@given(streams, st.lists(st.integers(0, 400), max_size=20))
def test_any_cutting_of_the_input_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    whole = converse([stream] if stream else [])
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(bounds)]
    assert converse(pieces) == whole
    assert converse([stream[at : at + 1] for at in range(len(stream))]) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=10))
def test_random_octets_never_raise(pieces: list[bytes]) -> None:
    converse([piece for piece in pieces if piece])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(COMMANDS)),
    st.lists(
        st.sampled_from([b" ", b"(", b")", b"1:*", b"[", b"]", b'"', b"\\", b"{3+}\r\nabc", b"BODY", b"FLAGS", b"NOT",
                         b"RETURN (", b"PARTIAL ", b"-1:-2", b"CHANGEDSINCE 1", b"UNCHANGEDSINCE 0", b"VANISHED",
                         b"QRESYNC (1 1", b"FUZZY ", b"$", b"MODSEQ ", b"IN (", b"personal", b"subtree ", b"OLDER 3",
                         b"SAVE", b"EMAILID M1-1", b"RELEVANCY", b"(LAZY)", b"PREVIEW",
                         b"OR", b"&", b"\\Seen", b"<0.1>", b"HEADER.FIELDS", b"UTF-8", b"REFERENCES", b"NIL"])
        | st.binary(max_size=4).filter(lambda octets: b"\n" not in octets),
        max_size=20,
    ),
)  # fmt: skip
def test_any_arguments_are_taken_or_refused(name: bytes, arguments: list[bytes]) -> None:
    row = COMMANDS[name]
    engine = Server()
    engine.state = row.states[-1]
    engine.receive(b"a " + name + b"".join(arguments) + b"\r\n")
    event = engine.next_event()
    assert (
        isinstance(event, (Command, AppendStart))
        or engine.data_to_send()
        or engine._framer.buffered
    )


@given(st.text())
def test_utf7_round_trip(name: str) -> None:
    wire = encode_utf7(name)
    assert decode_utf7(wire) == name
    assert is_canonical(wire)
    assert Cursor(b'"%b"' % wire.replace(b"\\", b"\\\\").replace(b'"', b'\\"')).mailbox() in (
        name,
        "INBOX",
    )


@given(
    st.lists(st.sampled_from([b"&", b"-", b"A", b"GE", b"AOk", b",", b"x"]), max_size=12).map(
        b"".join
    )
)
def test_utf7_decodes_to_a_name_that_encodes_or_refuses(wire: bytes) -> None:
    try:
        name = decode_utf7(wire)
    except ValueError:
        return
    assert decode_utf7(encode_utf7(name)) == name


numbers = st.integers(1, 30)
items = st.tuples(numbers | st.none(), numbers | st.none())


def members(pairs: list[tuple[int | None, int | None]], largest: int) -> set[int]:
    """The plain reading of RFC 3501 §9 sequence-set."""
    found: set[int] = set()
    for left, right in pairs:
        first, last = sorted((left or largest, right or largest))
        found.update(range(first, last + 1))
    return found


def wire_form(pairs: list[tuple[int | None, int | None]]) -> bytes:
    return b",".join(f"{left or '*'}:{right or '*'}".encode() for left, right in pairs)


@given(st.lists(items, min_size=1, max_size=8), st.sets(numbers, min_size=1))
def test_sequence_sets_meet_mailboxes_as_the_model_says(
    pairs: list[tuple[int | None, int | None]], present: set[int]
) -> None:
    parsed = parse_seqset(wire_form(pairs))
    uids = array("I", sorted(present))
    slices = uid_slices(parsed, uids)
    assert {uids[at] for part in slices for at in part} == members(pairs, uids[-1]) & present
    exists = len(present)
    wanted = members(pairs, exists)
    if max(wanted) <= exists and all((n or 1) <= exists for pair in pairs for n in pair):
        assert {at + 1 for part in number_slices(parsed, exists) for at in part} == wanted


@given(st.sets(st.integers(1, MAX_NUMBER) | numbers, min_size=1))
def test_numbers_round_trip_through_a_sequence_set(present: set[int]) -> None:
    wire = format_seqset(sorted(present))
    ranges = parse_seqset(wire).ranges
    assert sum(last - first + 1 for first, last in ranges) == len(present)
    assert all(first in present and last in present for first, last in ranges)
    assert format_ranges(ranges) == wire

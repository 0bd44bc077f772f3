"""The server engine: states, literals, limits, APPEND, AUTHENTICATE, IDLE and STARTTLS."""

from base64 import b64encode

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.core.flags import SEEN
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
from pillarbox.imap.grammar import FlagList
from pillarbox.imap.limits import MINUS_OCTETS, Limits
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.server import Server
from pillarbox.imap.syntax_append import MessageLiteral, NewMessage, Step, Target, UrlPart
from pillarbox.imap.syntax_list import List
from pillarbox.imap.syntax_mailbox import Mailbox
from pillarbox.imap.syntax_select import Select
from pillarbox.imap.syntax_session import Authenticate, Login
from pillarbox.imap.table import State


def server(state: State = State.AUTHENTICATED, limits: Limits | None = None) -> Server:
    engine = Server(limits)
    engine.state = state
    return engine


def sent(engine: Server) -> bytes:
    return b"".join(engine.data_to_send())


def event_of(engine: Server, data: bytes) -> Event:
    engine.receive(data)
    event = engine.next_event()
    assert event is not NEED_DATA
    assert event is not PAUSED
    return event


def answer_to(engine: Server, data: bytes) -> bytes:
    """What the engine answers by itself to input of which a service has nothing to do."""
    engine.receive(data)
    assert engine.next_event() in (NEED_DATA, PAUSED, CommandRefused())
    return sent(engine)


def command(engine: Server, line: bytes, status: bytes = b"OK") -> None:
    assert isinstance(event_of(engine, line + b"\r\n"), Command)
    engine.send_tagged(status, "done")
    engine.data_to_send()


# Commands and answers


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_line_ends_with_crlf_or_a_bare_lf(end: bytes) -> None:
    engine = server()
    assert event_of(engine, b"a1 noop" + end) == Command(b"a1", "NOOP", None)


def test_pipelined_commands_wait_for_the_answer() -> None:
    engine = server()
    assert event_of(engine, b"a NOOP\r\nb SELECT x\r\n") == Command(b"a", "NOOP", None)
    assert engine.next_event() is PAUSED
    engine.send(b"* 3 EXISTS\r\n")
    engine.send_rendered([b"* 1 FETCH ", b"(FLAGS ())\r\n"])
    engine.send_untagged(b"OK", "hello", b"UNSEEN 3")
    engine.send_tagged(b"OK", "done")
    assert engine.next_event() == Command(b"b", "SELECT", Select("x"))
    engine.send_tagged(b"OK", "done", b"READ-WRITE")
    assert engine.next_event() is NEED_DATA
    assert sent(engine) == (
        b"* 3 EXISTS\r\n* 1 FETCH (FLAGS ())\r\n* OK [UNSEEN 3] hello\r\na OK done\r\n"
        b"b OK [READ-WRITE] done\r\n"
    )


def test_greetings() -> None:
    engine = Server()
    engine.send_greeting("ready", b"CAPABILITY IMAP4rev1")
    assert sent(engine) == b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
    assert engine.state is State.NOT_AUTHENTICATED
    engine.send_greeting("welcome", status=b"PREAUTH")
    assert engine.state is State.AUTHENTICATED
    engine.send_greeting("too many connections", status=b"BYE")
    assert engine.closing


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", b"* BAD "),
        (b"+ NOOP", b"* BAD "),
        (b"\0\xff\x01", b"* BAD "),
        (b"a", b"a BAD "),
        (b"a ", b"a BAD "),
        (b"a FOO", b"a BAD Unknown command FOO\r\n"),
        (b"a " + b"f" * 50 + b" x", b"a BAD Unknown command " + b"f" * 40 + b"\r\n"),
        (b"a UID", b"a BAD "),
        (b"a UID NOOP", b"a BAD "),
        (b"a NOOP x", b"a BAD Expected the end of the command at octet 7"),
        (b"a SELECT", b"a BAD Expected a space, but the command ended"),
        (b"a SELECT &", b"a NO [CANNOT] "),
        (b"a NOOP\r", b"a BAD "),
    ],
)
def test_a_wrong_line_is_answered_by_the_engine_and_changes_nothing(
    line: bytes, answer: bytes
) -> None:
    engine = server()
    assert answer_to(engine, line + b"\r\n").startswith(answer)
    assert engine.state is State.AUTHENTICATED
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


def test_tagged_answers_without_a_command_are_our_bug() -> None:
    engine = server()
    for misuse in (lambda: engine.send_tagged(b"OK", "x"), engine.challenge, engine.continue_idle):
        with pytest.raises(RuntimeError):
            misuse()
    with pytest.raises(RuntimeError):
        engine.continue_append()


def test_too_many_bad_commands_in_a_row_close_the_connection() -> None:
    engine = server(limits=Limits(bad_commands=2))
    command(engine, b"a NOOP")
    assert b"BYE" not in answer_to(engine, b"x\r\ny\r\n")
    command(engine, b"a NOOP")
    assert answer_to(engine, b"x\r\ny\r\nz\r\nd NOOP\r\n").endswith(
        b"* BYE Too many bad commands\r\n"
    )
    assert engine.closing
    assert engine.next_event() is PAUSED


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"EHLO x\r\n", b"\x16\x03\x01\x02\x00\x01"]
)
def test_another_protocol_is_told_so_at_once(data: bytes) -> None:
    engine = server(State.NOT_AUTHENTICATED)
    assert answer_to(engine, data).startswith(b"* BYE ")
    assert engine.closing


def test_a_tag_may_look_like_another_protocol() -> None:
    assert event_of(Server(), b"GET NOOP\r\n") == Command(b"GET", "NOOP", None)


def test_commands_complete_at_the_end_of_the_stream_still_count() -> None:
    engine = server()
    engine.receive(b"a NOOP\r\nb NOOP\r\nc NO")
    engine.receive(b"")
    assert engine.next_event() == Command(b"a", "NOOP", None)
    engine.send_tagged(b"OK", "done")
    assert engine.next_event() == Command(b"b", "NOOP", None)
    assert not engine.closing
    engine.send_tagged(b"OK", "done")
    assert engine.next_event() is PAUSED
    assert engine.closing


# States


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State.NOT_AUTHENTICATED, b"a SELECT x"),
        (State.NOT_AUTHENTICATED, b"a APPEND x {3}"),
        (State.AUTHENTICATED, b"a LOGIN x y"),
        (State.AUTHENTICATED, b"a STARTTLS"),
        (State.AUTHENTICATED, b"a FETCH 1 FLAGS"),
        (State.SELECTED, b"a AUTHENTICATE PLAIN"),
    ],
)
def test_a_command_illegal_in_the_state_is_bad(state: State, line: bytes) -> None:
    engine = server(state)
    assert answer_to(engine, line + b"\r\n").startswith(b"a BAD Not allowed in the ")
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


def test_the_tagged_answer_moves_the_state() -> None:
    engine = Server()
    command(engine, b"a LOGIN x y", b"NO")
    assert engine.state is State.NOT_AUTHENTICATED
    for line, status, state in [
        (b"a LOGIN x y", b"OK", State.AUTHENTICATED),
        (b"a SELECT x", b"OK", State.SELECTED),
        (b"a SELECT y", b"BAD", State.SELECTED),
        (b"a CLOSE", b"NO", State.SELECTED),
        (b"a CLOSE", b"OK", State.AUTHENTICATED),
        (b"a EXAMINE x", b"OK", State.SELECTED),
        (b"a SELECT x", b"NO", State.AUTHENTICATED),
        (b"a SELECT x", b"OK", State.SELECTED),
        (b"a UNSELECT", b"OK", State.AUTHENTICATED),
    ]:
        command(engine, line, status)
        assert engine.state is state


def test_select_of_an_impossible_name_deselects() -> None:
    engine = server(State.SELECTED)
    assert answer_to(engine, b"a SELECT &\r\n").startswith(b"a NO ")
    assert engine.state is State.AUTHENTICATED


def test_logout_closes_after_its_answer() -> None:
    engine = server()
    event_of(engine, b"a LOGOUT\r\nb NOOP\r\n")
    engine.send_untagged(b"BYE", "bye")
    assert not engine.closing
    engine.send_tagged(b"OK", "done")
    assert engine.closing
    assert sent(engine) == b"* BYE bye\r\na OK done\r\n"
    assert engine.next_event() is PAUSED


def test_nothing_is_sent_after_bye() -> None:
    engine = server(State.SELECTED)
    event_of(engine, b"a FETCH 1 FLAGS\r\n")
    engine.bye("shutting down")
    engine.send(b"* 1 EXISTS\r\n")
    engine.send_rendered([b"x"])
    engine.send_tagged(b"OK", "done")
    engine.bye("again")
    assert sent(engine) == b"* BYE shutting down\r\n"


# Literals


def test_a_synchronising_literal_gets_its_continuation() -> None:
    engine = Server()
    assert answer_to(engine, b"A001 LOGIN {11}\r\n") == b"+ OK\r\n"
    assert answer_to(engine, b"FRED FOOBAR {7}\r\n") == b"+ OK\r\n"
    event = event_of(engine, b"fat man\r\n")
    assert isinstance(event, Command)
    assert isinstance(event.args, Login)
    assert (event.args.userid, event.args.password.reveal()) == ("FRED FOOBAR", "fat man")


def test_a_nonsynchronising_literal_gets_none() -> None:
    engine = server()
    event = event_of(engine, b"A LIST {0+}\r\n {3+}\r\na *\r\n")
    assert event == Command(b"A", "LIST", List("", ("a *",)))
    assert sent(engine) == b""


def test_a_continuation_waits_for_the_answer_before_it() -> None:
    engine = server()
    event_of(engine, b"a NOOP\r\nb SELECT {1}\r\n")
    assert sent(engine) == b""
    engine.send_tagged(b"OK", "done")
    assert engine.next_event() is NEED_DATA
    assert sent(engine) == b"a OK done\r\n+ OK\r\n"


def test_a_synchronising_literal_over_the_limit_is_refused_without_continuation() -> None:
    engine = server(limits=Limits(literals=10))
    assert answer_to(engine, b"a SELECT {11}\r\n").startswith(b"a BAD ")
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


def test_a_nonsynchronising_literal_over_the_limit_is_skipped_with_the_rest() -> None:
    engine = server(limits=Limits(literals=10))
    rest = b"c NOOP\r\nxyz and {8+}\r\nd NOOP\r\n more\r\n"
    event = event_of(engine, b"a SELECT {11+}\r\n" + rest + b"b NOOP\r\n")
    assert event == Command(b"b", "NOOP", None)
    assert sent(engine).count(b" BAD ") == 1


def test_literals_are_limited_together_and_in_number() -> None:
    engine = server(limits=Limits(literals=10, literal_count=2))
    assert b"a BAD" in answer_to(engine, b"a RENAME {6+}\r\nabcdef {5}\r\n")
    assert b"b BAD" in answer_to(engine, b"b LIST {0+}\r\n{0+}\r\n{0}\r\n")


def test_before_login_literals_are_small_and_a_large_one_closes() -> None:
    engine = Server()
    assert answer_to(engine, b"a LOGIN {4097}\r\n").startswith(b"a BAD ")
    answer = answer_to(engine, b"b LOGIN {4097+}\r\n")
    assert answer.endswith(b"* BYE [TOOBIG] The literal is too large\r\n")
    assert engine.closing


def test_before_login_lines_are_shorter() -> None:
    """Ten thousand strangers with half a line each must not take half a gigabyte."""
    engine = Server()
    assert event_of(engine, b"a LOGIN " + b"x" * 8_100 + b" y\r\n") is not None
    engine = Server()
    for _ in range(50):
        engine.receive(b"x" * 1_000)
        engine.next_event()
        assert engine._framer.buffered <= 10_000
    assert sent(engine).count(b"BAD") == 1


def test_an_absurd_literal_closes() -> None:
    engine = server()
    assert b"BYE [TOOBIG]" in answer_to(engine, b"a SELECT {%b+}\r\n" % (b"9" * 6000))
    engine = server()
    assert b"a BAD" in answer_to(engine, b"a SELECT {%b}\r\n" % (b"9" * 6000))
    assert not engine.closing


def test_a_wrong_command_is_refused_at_its_literal() -> None:
    engine = server()
    assert answer_to(engine, b"a FOO {3}\r\n").startswith(b"a BAD Unknown command")
    assert answer_to(engine, b"a FOO {3+}\r\nabc\r\n").startswith(b"a BAD Unknown command")
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


# Lines


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_line_of_just_the_limit_is_taken_and_a_longer_one_is_not(end: bytes) -> None:
    engine = server(limits=Limits(line=20))
    assert event_of(engine, b"a SELECT " + b"x" * 11 + end) == Command(
        b"a", "SELECT", Select("x" * 11)
    )
    engine.send_tagged(b"OK", "done")
    assert b"b BAD The command line is too long" in answer_to(
        engine, b"b SELECT " + b"x" * 12 + end
    )
    assert event_of(engine, b"c NOOP" + end) == Command(b"c", "NOOP", None)


def test_the_literal_at_the_end_of_an_overlong_line_is_skipped() -> None:
    engine = server(limits=Limits(line=100))
    event = event_of(engine, b"a SELECT " + b"x" * 200 + b"{8+}\r\nb NOOP\r\n\r\nc NOOP\r\n")
    assert event == Command(b"c", "NOOP", None)
    assert sent(engine).count(b"BAD") == 1


def test_an_endless_line_takes_bounded_memory() -> None:
    engine = server()
    for _ in range(100):
        engine.receive(b"a SELECT " + b"x" * 10_000)
        engine.next_event()
        assert engine._framer.buffered <= 76_000
    assert sent(engine).count(b"BAD") == 1


# APPEND


def test_append_streams_the_message() -> None:
    engine = server()
    event = event_of(engine, b"a APPEND inbox (\\Seen) {10}\r\n")
    steps: list[Step] = [NewMessage(FlagList(SEEN), None)]
    assert event == AppendStart(b"a", Target("INBOX"), steps, MessageLiteral(10))
    assert engine.next_event() is PAUSED
    assert sent(engine) == b""
    engine.continue_append()
    assert sent(engine) == b"+ OK\r\n"
    assert engine.next_event() is NEED_DATA
    assert event_of(engine, b"12345") == AppendData(b"12345")
    assert event_of(engine, b"67\x0090\r\nb NOOP\r\n") == AppendData(b"67\x0090")
    assert engine.next_event() == AppendEnd([])
    assert engine.next_event() is PAUSED
    engine.send_tagged(b"OK", "done", b"APPENDUID 1 2")
    assert sent(engine) == b"a OK [APPENDUID 1 2] done\r\n"
    assert engine.next_event() == Command(b"b", "NOOP", None)


def test_append_with_the_mailbox_as_a_literal() -> None:
    engine = server()
    assert answer_to(engine, b"a APPEND {5}\r\n") == b"+ OK\r\n"
    event = event_of(engine, b"a b c {3+}\r\n")
    steps: list[Step] = [NewMessage(FlagList(), None)]
    assert event == AppendStart(b"a", Target("a b c"), steps, MessageLiteral(3))
    engine.continue_append()
    assert sent(engine) == b""
    assert event_of(engine, b"xyz\r\n") == AppendData(b"xyz")
    assert engine.next_event() == AppendEnd([])


def test_append_refused_before_a_synchronising_literal() -> None:
    engine = server()
    event_of(engine, b"a APPEND x {3}\r\n")
    engine.send_tagged(b"NO", "no such mailbox", b"TRYCREATE")
    assert sent(engine) == b"a NO [TRYCREATE] no such mailbox\r\n"
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


@pytest.mark.parametrize("seen_chunks", [0, 1, 2])
def test_append_refused_at_any_time_skips_what_still_comes(seen_chunks: int) -> None:
    engine = server()
    event_of(engine, b"a APPEND x {8+}\r\n")
    message = b"b NOOP\r\n"
    if seen_chunks:
        engine.continue_append()
        assert event_of(engine, message[:4]) == AppendData(b"b NO")
        message = message[4:]
    if seen_chunks == 2:
        assert event_of(engine, message) == AppendData(b"OP\r\n")
        message = b""
    engine.send_tagged(b"NO", "disk full")
    assert event_of(engine, message + b"\r\nc NOOP\r\n") == Command(b"c", "NOOP", None)


def test_append_over_the_limit() -> None:
    engine = server(limits=Limits(message=10))
    assert answer_to(engine, b"a APPEND x {11}\r\n").startswith(b"a NO [TOOBIG] ")
    assert answer_to(engine, b"a APPEND x {11+}\r\n").startswith(b"a NO [TOOBIG] ")
    assert event_of(engine, b"\r\nb NOOP\r\n\r\r\nc NOOP\r\n") == Command(b"c", "NOOP", None)


@pytest.mark.parametrize("line", [b"a APPEND x", b'a APPEND x "y"', b"a APPEND {1+}\r\nx"])
def test_append_without_a_message_is_bad(line: bytes) -> None:
    engine = server()
    assert answer_to(engine, line + b"\r\n").startswith(b"a BAD ")


@pytest.mark.parametrize(
    "rest", [b" x", b"{3}", b" UTF8 {6+}\r\nd NOOP", b"x" * 70_000, b" (\\Seen)"]
)
def test_append_is_aborted_if_anything_follows_the_message(rest: bytes) -> None:
    engine = server()
    event_of(engine, b"a APPEND x {1+}\r\n")
    engine.continue_append()
    assert event_of(engine, b"x" + rest + b"\r\nc NOOP\r\n") == AppendData(b"x")
    assert engine.next_event() == AppendAborted()
    assert sent(engine).startswith(b"a BAD ")
    assert engine.next_event() == Command(b"c", "NOOP", None)


def test_an_empty_message_is_announced_as_such() -> None:
    engine = server()
    event = event_of(engine, b"a APPEND x {0+}\r\n\r\n")
    assert isinstance(event, AppendStart)
    assert event.literal == MessageLiteral(0)
    engine.continue_append()
    assert engine.next_event() == AppendEnd([])


def upload(engine: Server, *lines: bytes) -> list[Event]:
    """All events of a command that is sent at once, but for the octets of its literals."""
    engine.receive(b"\r\n".join(lines) + b"\r\n")
    events: list[Event] = []
    while not isinstance(event := engine.next_event(), Wait):
        if isinstance(event, (AppendStart, AppendNext)):
            engine.continue_append()
        elif isinstance(event, AppendEnd):
            engine.send_tagged(b"OK", "done")
        if not isinstance(event, AppendData):
            events.append(event)
    return events


def test_multiappend_gives_each_message() -> None:
    # RFC 3502 §6.3.11
    engine = server()
    date = b' "17-Jul-1996 02:44:25 -0700"'
    events = upload(engine, b"a APPEND x {1+}", b"a (\\Seen) {2+}", b"bb" + date + b" ~{0+}", b"")
    assert events == [
        AppendStart(b"a", Target("x"), [NewMessage(FlagList(), None)], MessageLiteral(1)),
        AppendNext([NewMessage(FlagList(SEEN), None)], MessageLiteral(2)),
        AppendNext(
            [NewMessage(FlagList(), pack_date(837596665, -420))], MessageLiteral(0, binary=True)
        ),
        AppendEnd([]),
    ]
    assert sent(engine) == b"a OK done\r\n"


def test_catenate_mixes_literals_and_urls() -> None:
    # RFC 4469 §5
    engine = server()
    events = upload(
        engine,
        b'a APPEND x (\\Seen) CATENATE (URL "/a/;UID=1" TEXT {1+}',
        b"a URL {9+}",
        b"/b/;UID=2 UTF8 (~{1+}",
        b"c) URL /d/;UID=3) {1+}",
        b"e catenate (url /f/;UID=4)",
    )
    assert events == [
        AppendStart(
            b"a",
            Target("x"),
            [NewMessage(FlagList(SEEN), None), UrlPart(b"/a/;UID=1")],
            MessageLiteral(1, is_part=True),
        ),
        AppendNext(
            [UrlPart(b"/b/;UID=2")], MessageLiteral(1, is_part=True, binary=True, utf8=True)
        ),
        AppendNext([UrlPart(b"/d/;UID=3"), NewMessage(FlagList(), None)], MessageLiteral(1)),
        AppendEnd([NewMessage(FlagList(), None), UrlPart(b"/f/;UID=4")]),
    ]


def test_catenate_of_urls_alone_needs_no_literal() -> None:
    engine = server()
    event = event_of(engine, b"a APPEND x CATENATE (URL /a/;UID=1)\r\nb NOOP\r\n")
    steps: list[Step] = [NewMessage(FlagList(), None), UrlPart(b"/a/;UID=1")]
    assert event == AppendStart(b"a", Target("x"), steps, None)
    engine.continue_append()
    assert engine.next_event() == AppendEnd([])
    engine.send_tagged(b"OK", "done")
    assert engine.next_event() == Command(b"b", "NOOP", None)


def test_catenate_of_urls_can_be_refused() -> None:
    engine = server()
    event_of(engine, b"a APPEND x CATENATE (URL /a/;UID=1)\r\nb NOOP\r\n")
    engine.send_tagged(b"NO", "no such mailbox", b"TRYCREATE")
    assert engine.next_event() == Command(b"b", "NOOP", None)


def test_a_later_message_can_be_refused() -> None:
    engine = server()
    event_of(engine, b"a APPEND x {1+}\r\n")
    engine.continue_append()
    assert event_of(engine, b"a {3}\r\n") == AppendData(b"a")
    assert isinstance(engine.next_event(), AppendNext)
    engine.send_tagged(b"NO", "too large", b"TOOBIG")
    assert event_of(engine, b"b NOOP\r\n") == Command(b"b", "NOOP", None)


def test_a_later_message_over_the_limit_ends_the_command() -> None:
    engine = server(limits=Limits(message=10))
    event_of(engine, b"a APPEND x {1+}\r\n")
    engine.continue_append()
    assert event_of(engine, b"a {11+}\r\n12345678901 {1+}\r\nx\r\nb NOOP\r\n") == AppendData(b"a")
    assert engine.next_event() == AppendAborted()
    assert sent(engine).startswith(b"a NO [TOOBIG]")
    assert engine.next_event() == Command(b"b", "NOOP", None)


def test_replace_takes_one_message_in_the_selected_state() -> None:
    # RFC 8508 §3.5, §4.7, §5
    assert answer_to(server(), b"a REPLACE 1 x {1}\r\n").startswith(b"a BAD ")
    engine = server(State.SELECTED)
    event = event_of(engine, b"a UID REPLACE 7 x (\\Seen) {1+}\r\n")
    assert isinstance(event, AppendStart)
    assert event.target == Target("x", SeqSet(((7, 7),)), uid=True)
    engine.continue_append()
    assert event_of(engine, b"a {1+}\r\nb\r\n") == AppendData(b"a")
    assert engine.next_event() == AppendAborted()
    assert sent(engine).startswith(b"a BAD ")
    for bad in (b"0 x", b"1:2 x", b"1,2 x", b"x x"):
        engine = server(State.SELECTED)
        assert answer_to(engine, b"a REPLACE " + bad + b" {1}\r\n").startswith(b"a BAD ")


@pytest.mark.parametrize(
    "arguments",
    [
        b"CATENATE ()",
        b"CATENATE (URL)",
        b"CATENATE (URL /a/;UID=1",
        b"CATENATE (FILE /a/;UID=1)",
        b"CATENATE (URL /a/;UID=1 )",
        b"UTF8 (URL /a/;UID=1)",
        b"CATENATE (URL /a/;UID=1) x",
    ],
)
def test_bad_catenate(arguments: bytes) -> None:
    assert answer_to(server(), b"a APPEND x " + arguments + b"\r\n").startswith(b"a BAD ")


# AUTHENTICATE


def test_authenticate_exchanges_base64() -> None:
    engine = Server()
    event = event_of(engine, b"a authenticate login\r\n")
    assert event == Command(b"a", "AUTHENTICATE", Authenticate("LOGIN", None))
    engine.challenge(b"User Name")
    assert sent(engine) == b"+ %b\r\n" % b64encode(b"User Name")
    assert event_of(engine, b64encode(b"smith") + b"\r\n") == AuthResponse(b"smith")
    engine.challenge()
    assert sent(engine) == b"+ \r\n"
    assert event_of(engine, b"\r\n") == AuthResponse(b"")
    engine.send_tagged(b"OK", "done")
    assert engine.state is State.AUTHENTICATED


@pytest.mark.parametrize("line", [b"*", b"abc", b"a===", b"ab c", b"x" * 12_289, b"{5+}"])
def test_authenticate_fails_on_cancel_and_on_what_is_not_base64(line: bytes) -> None:
    engine = Server()
    event_of(engine, b"a AUTHENTICATE PLAIN\r\n")
    engine.challenge()
    event = event_of(engine, line + b"\r\nb NOOP\r\n")
    assert isinstance(event, AuthResponse)
    assert event.data is None
    engine.send_tagged(b"BAD", event.problem)
    assert engine.next_event() == Command(b"b", "NOOP", None)
    assert engine.state is State.NOT_AUTHENTICATED


def test_an_authentication_line_may_have_12288_octets() -> None:
    engine = Server()
    event_of(engine, b"a AUTHENTICATE PLAIN\r\n")
    engine.challenge()
    assert event_of(engine, b"x" * 12_288 + b"\r\n") != AuthResponse(None)


def test_responses_do_not_show_in_repr() -> None:
    assert "sesame" not in repr(AuthResponse(b"sesame"))


# IDLE


@pytest.mark.parametrize(
    ("line", "valid"),
    [(b"DONE", True), (b"done", True), (b"b NOOP", False), (b"x {7+}\r\nb NOOP\n", False)],
)
def test_only_done_ends_idle_well(line: bytes, valid: bool) -> None:
    engine = server()
    event_of(engine, b"a IDLE\r\n")
    engine.continue_idle()
    assert engine.next_event() is NEED_DATA
    engine.send(b"* 4 EXISTS\r\n")
    assert sent(engine) == b"+ idling\r\n* 4 EXISTS\r\n"
    assert event_of(engine, line + b"\r\nc NOOP\r\n") == IdleDone(valid)
    assert engine.next_event() is PAUSED
    engine.send_tagged(b"OK" if valid else b"BAD", "done")
    assert engine.next_event() == Command(b"c", "NOOP", None)


# STARTTLS


def test_starttls() -> None:
    engine = Server()
    event_of(engine, b"a STARTTLS\r\n")
    engine.send_tagged(b"OK", "begin")
    assert engine.wants_tls
    assert engine.next_event() is PAUSED
    assert sent(engine) == b"a OK begin\r\n"
    engine.tls_started()
    assert not engine.wants_tls
    assert engine.tls
    assert answer_to(engine, b"b STARTTLS\r\n").startswith(b"b BAD ")


def test_what_follows_starttls_in_the_clear_is_refused() -> None:
    engine = Server()
    event_of(engine, b"a STARTTLS\r\nb LOGIN x y\r\n")
    engine.send_tagged(b"OK", "begin")
    assert not engine.wants_tls
    assert engine.closing
    assert sent(engine).startswith(b"a BAD ")


def test_what_comes_before_the_handshake_is_forgotten() -> None:
    engine = Server()
    event_of(engine, b"a STARTTLS\r\n")
    engine.send_tagged(b"OK", "begin")
    engine.receive(b"b LOGIN x y\r\n")
    assert engine.next_event() is PAUSED
    engine.tls_started()
    assert engine.next_event() is NEED_DATA


def test_a_refused_starttls_changes_nothing() -> None:
    engine = Server()
    command(engine, b"a STARTTLS", b"BAD")
    assert not engine.wants_tls
    assert not engine.closing


# Time


def test_timeouts_by_state() -> None:
    engine = Server(Limits(login_timeout_s=60, autologout_s=1800))
    assert engine.timeout() == 60
    event_of(engine, b"a LOGIN x y\r\n")
    assert engine.timeout() is None
    engine.send_tagged(b"OK", "done")
    assert engine.timeout() == 1800
    event_of(engine, b"a IDLE\r\n")
    engine.continue_idle()
    engine.data_to_send()
    assert engine.timeout() == 1800
    engine.timed_out()
    assert sent(engine).startswith(b"* BYE ")
    assert engine.closing


def test_a_mailbox_that_is_no_more_leaves_the_authenticated_state() -> None:
    server = Server()
    server.send_greeting("ready", status=b"PREAUTH")
    server.receive(b"a SELECT INBOX\r\n")
    server.next_event()
    assert server.owes_answer
    server.send_tagged(b"OK", "done")
    assert not server.owes_answer
    assert server.state is State.SELECTED
    server.deselect()
    assert server.state is State.AUTHENTICATED


def test_with_literal_minus_more_than_4096_octets_must_synchronise() -> None:
    # RFC 7888 §5
    engine = server(limits=Limits(non_synchronising=MINUS_OCTETS))
    assert isinstance(event_of(engine, b"a APPEND x {4096+}\r\n"), AppendStart)
    engine = server(limits=Limits(non_synchronising=MINUS_OCTETS))
    large = b"{4097+}\r\n" + b"x" * 4097 + b"\r\n"
    assert answer_to(engine, b"a APPEND x " + large).startswith(b"a BAD [TOOBIG] ")
    assert answer_to(engine, b"b SELECT " + large).startswith(b"b BAD Literals")
    assert isinstance(event_of(engine, b"c APPEND x {4097}\r\n"), AppendStart)


def test_a_quoted_string_that_is_not_utf8_is_bad() -> None:
    # RFC 6855 §3
    engine = server()
    engine.utf8 = True
    assert answer_to(engine, b'a SELECT "\xff"\r\n').startswith(b"a BAD ")
    assert event_of(engine, 'a DELETE "é&-"\r\n'.encode()) == Command(
        b"a", "DELETE", Mailbox("é&-")
    )


def test_a_mailbox_name_that_is_not_utf8_cannot_be() -> None:
    for utf8 in (False, True):
        engine = server()
        engine.utf8 = utf8
        assert answer_to(engine, b"a SELECT {1+}\r\n\xff\r\n").startswith(b"a NO [CANNOT] ")


def test_what_the_engine_refuses_is_an_event_each() -> None:
    """A driver takes but some events in a turn: a client may send thousands of such commands at once."""
    engine = server(State.SELECTED)
    engine.receive(b"a SORT (DATE) KLINGON ALL\r\n" * 3 + b"b SELECT {1+}\r\n\xff\r\n")
    for _ in range(3):
        assert engine.next_event() == CommandRefused()
        assert sent(engine).startswith(b"a NO [BADCHARSET ")
    assert engine.next_event() == CommandRefused()
    assert sent(engine).startswith(b"b NO [CANNOT] ")
    assert engine.state is State.AUTHENTICATED
    assert engine.next_event() is NEED_DATA

"""The POP3 server engine: states, replies, limits (RFC 1939, 2449, 2595, 5034)."""

from base64 import b64encode

import pytest

from pillarbox import __version__
from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.pop3.events import (
    Auth,
    AuthResponse,
    Delete,
    Event,
    List,
    Login,
    Quit,
    Reset,
    Retrieve,
    Stat,
    Top,
    Uidl,
)
from pillarbox.pop3.options import Limits, ServerOptions
from pillarbox.pop3.server import Pop3Server

PUBLIC = ServerOptions(stls=True)
LAB = ServerOptions(cleartext_login=True)


class Session:
    """A maildrop with one message; logins succeed unless `refuse` is set."""

    def __init__(self, options: ServerOptions = LAB, *, tls: bool = False) -> None:
        self.engine = Pop3Server(options, tls=tls)
        self.events: list[Event] = []
        self.refuse = ""
        self.challenge: bytes | None = None
        self.engine.send_ok("Pillarbox ready.")
        self.engine.data_to_send()

    def say(self, data: bytes) -> bytes:
        self.engine.receive(data)
        while not isinstance(event := self.engine.next_event(), Wait):
            self.events.append(event)
            self.answer(event)
        return b"".join(self.engine.data_to_send())

    def answer(self, event: Event) -> None:
        engine = self.engine
        if isinstance(event, Auth | AuthResponse) and self.challenge is not None:
            challenge, self.challenge = self.challenge, None
            engine.send_challenge(challenge)
        elif self.refuse:
            engine.send_err("No", self.refuse)
        elif isinstance(event, Login | Auth | AuthResponse):
            engine.send_ok("Logged in.")
        elif isinstance(event, Stat):
            engine.send_ok("42 1234567")
        elif isinstance(event, List | Uidl) and event.number is None:
            engine.send_lines("1 messages:", [b"1 6\r\n"])
        elif isinstance(event, Retrieve | Top):
            engine.send_message(b"a\r\n.b")
        else:
            engine.send_ok("Logging out." if isinstance(event, Quit) else "")


def logged_in(options: ServerOptions = LAB) -> Session:
    session = Session(options)
    assert session.say(b"USER u\r\nPASS p\r\n") == b"+OK\r\n+OK Logged in.\r\n"
    session.events.clear()
    return session


def test_a_conversation() -> None:
    session = Session()
    assert session.say(b"USER user@example.com\r\n") == b"+OK\r\n"
    assert session.say(b"PASS pass word \r\n") == b"+OK Logged in.\r\n"
    login = session.events[0]
    assert isinstance(login, Login)
    assert (login.username, login.password.reveal()) == ("user@example.com", "pass word ")
    assert "pass word" not in repr(login)
    assert session.say(b"STAT\r\n") == b"+OK 42 1234567\r\n"
    assert session.say(b"LIST\r\n") == b"+OK 1 messages:\r\n1 6\r\n.\r\n"
    assert session.say(b"RETR 1\r\n") == b"+OK 7 octets\r\na\r\n..b\r\n.\r\n"
    assert session.say(b"QUIT\r\n") == b"+OK Logging out.\r\n"
    assert session.engine.closing
    assert session.events[1:] == [Stat(), List(None), Retrieve(1), Quit()]


def test_the_greeting_comes_first() -> None:
    engine = Pop3Server(LAB)
    engine.receive(b"CAPA\r\n")
    assert engine.next_event() is PAUSED
    engine.send_ok("Pillarbox ready.")
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send()[0] == b"+OK Pillarbox ready.\r\n"


def test_a_refused_client_is_closed() -> None:
    engine = Pop3Server(LAB)
    engine.send_err("Too many connections", "SYS/TEMP")
    assert engine.data_to_send() == [b"-ERR [SYS/TEMP] Too many connections\r\n"]
    assert engine.closing


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"STAT", Stat()),
        (b"list 3", List(3)),
        (b"LIST ", List(None)),
        (b"UIDL", Uidl(None)),
        (b"UIDL 12", Uidl(12)),
        (b"RETR 1", Retrieve(1)),
        (b"DELE 1", Delete(1)),
        (b"RSET", Reset()),
        (b"TOP 1 0", Top(1, 0)),
        (b"TOP 7 10", Top(7, 10)),
        (b"QUIT", Quit()),
    ],
)
def test_commands_of_the_transaction_state(line: bytes, event: Event) -> None:
    session = logged_in()
    assert session.say(line + b"\r\n").startswith(b"+OK")
    assert session.events == [event]
    if line != b"QUIT":
        assert Session().say(line + b"\r\n").startswith(b"-ERR")
        assert logged_in().say(line + b"\n").startswith(b"+OK")  # a bare LF ends a line here


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"XYZ",
        b"APOP u 0123",
        b"RETR",
        b"RETR 0",
        b"RETR -1",
        b"RETR x",
        b"RETR 1 2",
        b"RETR 12345678901",
        b"RETR \xd9\xa1",
        b"LIST 0",
        b"TOP 1",
        b"TOP 0 1",
        b"TOP 1 -1",
        b"TOP 1 2 3",
        b"STAT 1",
        b"USER u",
        b"PASS p",
        b"AUTH PLAIN",
        b"STLS",
        b"NOOP " + b"x" * 249,
        b"\xff\0",
    ],
)
def test_wrong_commands(line: bytes) -> None:
    session = logged_in()
    answer = session.say(line + b"\r\n")
    assert answer.startswith(b"-ERR ")
    assert answer.count(b"\r\n") == 1
    assert session.events == []
    assert session.say(b"NOOP\r\n") == b"+OK\r\n"


def test_lines_may_have_255_octets() -> None:
    session = Session()
    assert session.say(b"USER " + b"u" * 248 + b"\r\n") == b"+OK\r\n"
    assert session.say(b"USER " + b"u" * 249 + b"\r\n") == b"-ERR Line too long\r\n"


def test_pass_needs_user_each_time() -> None:
    session = Session()
    assert session.say(b"PASS p\r\n").startswith(b"-ERR")
    session.refuse = "AUTH"
    assert session.say(b"USER u\r\nPASS p\r\n") == b"+OK\r\n-ERR [AUTH] No\r\n"
    assert session.say(b"PASS p\r\n") == b"-ERR Send USER first\r\n"
    assert session.say(b"USER \xff\r\n").startswith(b"-ERR")


def test_refused_login_stays_in_authorization() -> None:
    session = Session()
    session.refuse = "IN-USE"
    session.say(b"USER u\r\nPASS p\r\n")
    assert session.say(b"STAT\r\n").startswith(b"-ERR")


def test_pipelined_commands_wait_in_order() -> None:
    session = logged_in()
    session.engine.receive(b"STAT\r\nNOOP\r\n")
    assert session.engine.next_event() == Stat()
    assert session.engine.next_event() is PAUSED
    assert session.engine.timeout() is None
    session.engine.send_ok("1 1")
    assert session.say(b"") == b"+OK 1 1\r\n+OK\r\n"


def test_quit_before_login_needs_no_decision() -> None:
    session = Session()
    assert session.say(b"QUIT\r\nNOOP\r\n") == b"+OK Logging out.\r\n"
    assert session.engine.closing
    assert session.events == []


def test_a_failed_update_closes_too() -> None:
    session = logged_in()
    session.refuse = "SYS/TEMP"
    assert session.say(b"QUIT\r\n") == b"-ERR [SYS/TEMP] No\r\n"
    assert session.engine.closing


# CAPA, STLS


def capabilities(session: Session) -> list[str]:
    first, *lines, last = session.say(b"CAPA\r\n").decode().split("\r\n")[:-1]
    assert first.startswith("+OK")
    assert last == "."
    return lines


ALWAYS = [
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "EXPIRE NEVER",
    "UTF8",
    "LANG",
    f"IMPLEMENTATION Pillarbox-{__version__}",
]


def test_capabilities_depend_on_tls_and_state() -> None:
    assert capabilities(Session(PUBLIC)) == ["TOP", "UIDL", "STLS", *ALWAYS]
    with_login = ["TOP", "UIDL", "USER", "SASL PLAIN", *ALWAYS]
    assert capabilities(Session(PUBLIC, tls=True)) == with_login
    assert capabilities(Session()) == with_login
    assert capabilities(logged_in()) == with_login


def test_expire_and_login_delay_are_told_as_configured() -> None:
    """RFC 2449 §6.5, §6.7"""
    lines = capabilities(Session(ServerOptions(login_delay_s=900, expire_days=60)))
    assert "LOGIN-DELAY 900" in lines
    assert "EXPIRE 60" in lines


def test_utf8_comes_before_the_login_and_after_stls() -> None:
    """RFC 6856 §2, §2.1"""
    session = Session(PUBLIC)
    assert not session.engine.utf8
    assert session.say(b"UTF8 x\r\n").startswith(b"-ERR")
    assert session.say(b"utf8\r\n") == b"+OK UTF-8 enabled\r\n"
    assert session.engine.utf8
    assert session.say(b"STLS\r\n").startswith(b"-ERR")
    assert not session.engine.wants_tls
    assert logged_in().say(b"UTF8\r\n").startswith(b"-ERR")


def test_utf8_that_is_switched_off_is_neither_told_nor_taken() -> None:
    """RFC 6856 §2: only a server that announces UTF8 has the command."""
    session = Session(ServerOptions(utf8=False))
    assert "UTF8" not in capabilities(session)
    assert session.say(b"UTF8\r\n") == b"-ERR UTF8 is switched off\r\n"
    assert not session.engine.utf8


def test_lang_lists_and_chooses_the_one_language() -> None:
    """RFC 6856 §3.2"""
    for session in (Session(), logged_in()):
        assert session.say(b"LANG\r\n") == b"+OK Language listing follows:\r\nen English\r\n.\r\n"
        for wanted in (b"*", b"EN"):
            assert session.say(b"LANG %b\r\n" % wanted).startswith(b"+OK en ")
        assert session.say(b"LANG MUL\r\n").startswith(b"-ERR")


def test_no_login_in_the_clear() -> None:
    session = Session(PUBLIC)
    for line in (b"USER u", b"AUTH PLAIN AGEAYg=="):
        assert session.say(line + b"\r\n") == b"-ERR Login needs TLS: send STLS first\r\n"
    assert session.events == []


def test_stls() -> None:
    session = Session(PUBLIC)
    assert session.say(b"STLS\r\n") == b"+OK Begin TLS negotiation\r\n"
    assert session.engine.wants_tls
    assert session.engine.next_event() is PAUSED
    session.engine.tls_started()
    assert session.say(b"STLS\r\n").startswith(b"-ERR")
    assert session.say(b"USER u\r\n") == b"+OK\r\n"
    assert Session(LAB).say(b"STLS\r\n").startswith(b"-ERR")


def test_plain_text_behind_stls_is_never_read() -> None:
    session = Session(PUBLIC)
    assert session.say(b"STLS\r\nUSER evil\r\n").startswith(b"-ERR")
    assert session.engine.closing
    session = Session(PUBLIC)
    session.say(b"STLS\r\n")
    assert session.say(b"USER evil\r\n") == b""
    assert session.engine.closing


# AUTH (RFC 5034)


def test_auth_with_initial_response() -> None:
    session = Session()
    assert session.say(b"AUTH PLAIN " + b64encode(b"\0a\0b") + b"\r\n") == b"+OK Logged in.\r\n"
    assert session.events == [Auth("PLAIN", b"\0a\0b")]
    assert session.say(b"NOOP\r\n") == b"+OK\r\n"


def test_auth_with_challenge() -> None:
    session = Session()
    session.challenge = b""
    assert session.say(b"auth plain\r\n") == b"+ \r\n"
    assert session.say(b64encode(b"\0a\0" + b"b" * 1000) + b"\r\n") == b"+OK Logged in.\r\n"
    assert session.events[-1] == AuthResponse(b"\0a\0" + b"b" * 1000)


@pytest.mark.parametrize("response", [b"*", b"!", b"A" * 12288])
def test_failed_exchange_goes_back_to_commands(response: bytes) -> None:
    session = Session()
    session.challenge = b""
    session.say(b"AUTH PLAIN\r\n")
    assert session.say(response + b"\r\n").startswith(b"-ERR ")
    assert session.say(b"CAPA\r\n").startswith(b"+OK")
    assert len(session.events) == 1


@pytest.mark.parametrize("argument", [b"", b" LOGIN", b" PLAIN !", b" PLAIN AA== AA=="])
def test_wrong_auth_commands(argument: bytes) -> None:
    assert Session().say(b"AUTH" + argument + b"\r\n").startswith(b"-ERR ")


def test_empty_initial_response_is_an_equals_sign() -> None:
    session = Session()
    session.say(b"AUTH PLAIN =\r\n")
    assert session.events == [Auth("PLAIN", b"")]


# Answers


def test_a_message_may_be_streamed() -> None:
    session = logged_in()
    engine = session.engine
    engine.receive(b"RETR 1\r\nNOOP\r\n")
    engine.next_event()
    engine.start_multiline("6 octets")
    engine.send_rendered([b"ab", b"c\r\n"])
    assert engine.data_to_send() == [b"+OK 6 octets\r\n", b"ab", b"c\r\n"]
    assert engine.next_event() is PAUSED
    with pytest.raises(RuntimeError):
        engine.send_ok()
    engine.send_rendered([b"d\r\n"])
    engine.end_multiline()
    assert session.say(b"") == b"d\r\n.\r\n+OK\r\n"


def test_answers_need_an_event_that_waits_for_them() -> None:
    engine = logged_in().engine
    for call in (
        engine.send_ok,
        engine.end_multiline,
        lambda: engine.send_err("x"),
        lambda: engine.send_message(b""),
        lambda: engine.send_lines("", []),
        lambda: engine.send_rendered([b""]),
        lambda: engine.start_multiline(""),
        lambda: engine.send_challenge(b""),
    ):
        with pytest.raises(RuntimeError):
            call()
    engine.receive(b"QUIT\r\n")
    engine.next_event()
    with pytest.raises(RuntimeError):
        engine.send_message(b"")


def test_no_text_can_break_out_of_a_response() -> None:
    session = logged_in()
    session.engine.receive(b"STAT\r\n")
    session.engine.next_event()
    session.engine.send_err("a\r\n+OK é" + "x" * 600)
    line = session.say(b"")
    assert line.startswith(b"-ERR a??+OK ?x")
    assert len(line) <= 512


# Limits, time, the end


def test_too_many_errors_close() -> None:
    session = Session()
    assert session.say(b"XYZ\r\n" * 30).count(b"-ERR") == 21
    assert session.engine.closing


def test_failed_logins_are_errors() -> None:
    session = Session(ServerOptions(cleartext_login=True, limits=Limits(errors=3)))
    session.refuse = "AUTH"
    assert session.say(b"USER u\r\nPASS p\r\n" * 9).count(b"[AUTH]") == 3
    assert session.engine.closing


def test_an_endless_line_closes() -> None:
    session = Session()
    for _ in range(3):
        session.say(b"x" * 65536)
        assert len(session.engine._lines) == 0
    assert session.engine.closing


def test_timeouts() -> None:
    session = Session()
    assert session.engine.timeout() == 60.0
    session = logged_in()
    assert session.engine.timeout() == 600.0
    session.engine.timed_out()
    assert session.engine.data_to_send() == []  # RFC 1939 §3: no response
    assert session.engine.closing


def test_end_of_stream_closes_after_what_was_sent() -> None:
    session = logged_in()
    session.engine.receive(b"NOOP\r\nNOO")
    assert session.say(b"") == b"+OK\r\n"
    assert session.engine.closing


def test_shut_down() -> None:
    session = logged_in()
    session.engine.receive(b"STAT\r\n")
    session.engine.next_event()
    session.engine.shut_down()
    assert not session.engine.closing
    session.engine.send_ok("1 1")
    assert (
        session.say(b"NOOP\r\n") == b"+OK 1 1\r\n-ERR [SYS/TEMP] The server ends this session\r\n"
    )
    assert session.engine.closing
    session = logged_in()
    session.engine.shut_down()
    assert session.engine.closing


def test_a_message_without_its_last_line_end_still_ends() -> None:
    """Whatever a damaged file says of its lines: else the client waits for ever (RFC 1939 §3)."""
    engine = logged_in().engine
    engine.receive(b"RETR 1\r\n")
    engine.next_event()
    engine.send_message(b"a\r\nb", has_crlf=True)
    assert b"".join(engine.data_to_send()) == b"+OK 6 octets\r\na\r\nb\r\n.\r\n"

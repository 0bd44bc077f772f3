"""The SMTP server engine: order of commands, replies, limits (RFC 5321 §4.1.4, §4.3)."""

from base64 import b64encode

import pytest

from pillarbox.core.address import Address
from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.smtp import reply as replies
from pillarbox.smtp.events import (
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
)
from pillarbox.smtp.options import Limits, ServerOptions
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.server import SmtpServer

HOST = "mail.example.com"
MX = ServerOptions(HOST, 1000, starttls=True)
SUBMISSION = ServerOptions(
    HOST, 1000, starttls=True, mechanisms=("PLAIN", "LOGIN"), requires_auth=True
)
LAB = ServerOptions(HOST, 1000, mechanisms=("PLAIN", "LOGIN"), cleartext_auth=True)


class Session:
    """A service that accepts everything, except where `answers` says otherwise for an event class."""

    def __init__(self, options: ServerOptions = MX, *, tls: bool = False) -> None:
        self.engine = SmtpServer(options, tls=tls)
        self.events: list[Event] = []
        self.answers: dict[type, Reply | bytes] = {}
        self.engine.send(replies.greeting(HOST))
        self.engine.data_to_send()

    def say(self, data: bytes) -> bytes:
        """Feed `data`, serve until nothing is left; what the server said."""
        self.engine.receive(data)
        while not isinstance(event := self.engine.next_event(), Wait):
            self.events.append(event)
            self.answer(event)
        return b"".join(self.engine.data_to_send())

    def answer(self, event: Event) -> None:
        default: dict[type, Reply] = {
            Mail: replies.SENDER_OK,
            Rcpt: replies.RECIPIENT_OK,
            DataStart: replies.START_MAIL_INPUT,
            BodyEnd: replies.queued("ABC123"),
            Auth: replies.AUTHENTICATED,
            AuthResponse: replies.AUTHENTICATED,
        }
        if isinstance(event, BodyChunk | Reset | Quit):
            return
        if isinstance(event, Hello):
            default[Hello] = self.engine.hello_reply()
        answer = self.answers.get(type(event), default[type(event)])
        if isinstance(answer, bytes):
            self.engine.send_challenge(answer)
        else:
            self.engine.send(answer)

    def codes(self, data: bytes) -> list[str]:
        return [line[:9].decode() for line in self.say(data).split(b"\r\n")[:-1]]

    def code(self, line: bytes) -> str:
        codes = self.codes(line + b"\r\n")
        assert len(codes) == 1, codes
        return codes[0]


def greeted(options: ServerOptions = MX, *, tls: bool = False) -> Session:
    session = Session(options, tls=tls)
    session.say(b"EHLO client.example\r\n")
    session.events.clear()
    return session


def in_transaction(options: ServerOptions = MX) -> Session:
    session = greeted(options)
    session.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
    session.events.clear()
    return session


# A whole conversation


def test_nothing_is_read_before_the_greeting() -> None:
    engine = SmtpServer(MX)
    engine.receive(b"NOOP\r\n")
    assert engine.next_event() is PAUSED
    engine.send(replies.greeting(HOST))
    assert engine.next_event() is NEED_DATA
    assert engine.data_to_send() == [
        b"220 mail.example.com ESMTP Pillarbox\r\n",
        b"250 2.0.0 Ok\r\n",
    ]


def test_a_conversation() -> None:
    session = Session()
    assert session.say(b"EHLO client.example\r\n") == (
        b"250-mail.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n"
        b"250-SMTPUTF8\r\n250-LIMITS RCPTMAX=1000\r\n250 HELP\r\n"
    )
    assert session.say(b"MAIL FROM:<a@example.org> SIZE=20\r\n") == b"250 2.1.0 Ok\r\n"
    assert session.say(b"RCPT TO:<B@Example.COM>\r\n") == b"250 2.1.5 Ok\r\n"
    assert session.say(b"DATA\r\n") == b"354 End data with <CR><LF>.<CR><LF>\r\n"
    assert session.say(b"Subject: x\r\n\r\n..y\r\n.\r\n") == (b"250 2.0.0 Ok: queued as ABC123\r\n")
    assert session.say(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert session.engine.closing
    assert session.events == [
        Hello(True, "client.example"),
        Mail(Address("a", "example.org"), 20, {"SIZE": "20"}),
        Rcpt(Address("B", "example.com"), "B@Example.COM", {}),
        DataStart(),
        BodyChunk(b"Subject: x\r\n\r\n.y\r\n"),
        BodyEnd(18, False, False),
        Quit(),
    ]


def test_pipelined_replies_leave_together() -> None:
    session = greeted()
    session.engine.receive(
        b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"
    )
    assert session.codes(b"") == [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.0.0",
        "250 2.1.0",
        "250 2.1.5",
        "354 End d",
    ]


def test_pipelined_commands_wait_for_the_answer() -> None:
    session = greeted()
    session.engine.receive(b"MAIL FROM:<a@b>\r\nNOOP\r\n")
    assert isinstance(session.engine.next_event(), Mail)
    assert session.engine.next_event() is PAUSED
    assert session.engine.timeout() is None
    assert session.engine.data_to_send() == []
    session.engine.send(replies.SENDER_OK)
    assert session.engine.next_event() is NEED_DATA
    assert session.engine.timeout() == 300.0
    assert session.engine.data_to_send() == [b"250 2.1.0 Ok\r\n", b"250 2.0.0 Ok\r\n"]


def test_a_command_may_follow_the_data_in_one_piece() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    assert session.codes(b"x\r\n.\r\nMAIL FROM:<a@b>\r\nQUIT\r\n") == [
        "250 2.0.0",
        "250 2.1.0",
        "221 2.0.0",
    ]


def test_send_needs_an_event_that_waits() -> None:
    session = greeted()
    with pytest.raises(RuntimeError):
        session.engine.send(replies.OK)
    with pytest.raises(RuntimeError):
        session.engine.send_challenge(b"")
    session.engine.receive(b"MAIL FROM:<a@b>\r\n")
    session.engine.next_event()
    with pytest.raises(RuntimeError):
        session.engine.send(replies.START_MAIL_INPUT)


# Hello


def test_helo_has_no_extensions() -> None:
    session = Session()
    assert session.say(b"helo x\r\n") == b"250 mail.example.com\r\n"
    assert session.events == [Hello(False, "x")]


@pytest.mark.parametrize("line", [b"EHLO", b"HELO", b"EHLO \x01", b"EHLO   "])
def test_hello_needs_a_domain(line: bytes) -> None:
    assert Session().code(line) == "501 5.5.4"


def test_hello_ends_a_transaction() -> None:
    session = in_transaction()
    session.say(b"EHLO again.example\r\n")
    assert session.code(b"DATA") == "503 5.5.1"


def test_refused_hello_changes_nothing() -> None:
    session = in_transaction()
    session.answers[Hello] = Reply(550, "5.7.1", "No")
    assert session.code(b"EHLO again.example") == "550 5.7.1"
    assert session.code(b"DATA") == "354 End d"


def test_refused_client_may_only_quit() -> None:
    engine = SmtpServer(MX)
    engine.send(Reply(554, "5.3.2", "No SMTP service here"))
    engine.receive(b"EHLO x\r\nNOOP\r\nXYZ\r\nQUIT\r\n")
    assert engine.next_event() == Quit()
    codes = [line[:9] for line in engine.data_to_send()]
    assert codes == [b"554 5.3.2", b"503 5.5.1", b"503 5.5.1", b"503 5.5.1", b"221 2.0.0"]


def test_421_as_greeting_closes() -> None:
    engine = SmtpServer(MX)
    engine.send(replies.TOO_MANY_CONNECTIONS)
    assert engine.closing
    engine.receive(b"EHLO x\r\n")
    assert engine.next_event() is PAUSED


# Order of commands


@pytest.mark.parametrize(
    "line", [b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA", b"STARTTLS", b"AUTH PLAIN"]
)
def test_hello_comes_first(line: bytes) -> None:
    assert Session().code(line) == "503 5.5.1"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"NOOP", "250 2.0.0"),
        (b"noop with text", "250 2.0.0"),
        (b"RSET", "250 2.0.0"),
        (b"VRFY someone", "252 2.5.0"),
        (b"EXPN list", "502 5.5.1"),
        (b"HELP", "214 2.0.0"),
        (b"HELP MAIL", "214 2.0.0"),
        (b"QUIT", "221 2.0.0"),
    ],
)
def test_these_are_served_at_any_time(line: bytes, code: str) -> None:
    assert Session().code(line) == code
    assert greeted().code(line) == code
    assert in_transaction().code(line) == code
    assert in_transaction().code(line + b" \t ") == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "500 5.5.2"),
        (b"XYZZY", "500 5.5.2"),
        (b"MAILFROM:<a@b>", "500 5.5.2"),
        (b" NOOP", "500 5.5.2"),
        (b"\xff\xfe\0", "500 5.5.2"),
        (b"NOOP\nRSET", "500 5.5.2"),
        (b"NOOP\rRSET", "500 5.5.2"),
        (b"NOOP\r", "500 5.5.2"),
        (b"NOOP " + b"x" * 2042, "500 5.5.2"),
        (b"NOOP " + b"x" * 2041, "250 2.0.0"),
        (b"VRFY", "501 5.5.4"),
        (b"EXPN", "501 5.5.4"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL TO:<a@b>", "501 5.5.4"),
        (b"RSET now", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
        (b"STARTTLS now", "501 5.5.4"),
        (b"RCPT TO:<a@b>", "503 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"AUTH PLAIN", "502 5.5.1"),
        (b"TURN", "500 5.5.2"),
    ],
)
def test_wrong_commands(line: bytes, code: str) -> None:
    session = greeted()
    assert session.code(line) == code
    assert session.code(b"NOOP") == "250 2.0.0"


def test_data_takes_no_argument() -> None:
    assert in_transaction().code(b"DATA now") == "501 5.5.4"


def test_mail_does_not_nest() -> None:
    session = in_transaction()
    assert session.code(b"MAIL FROM:<a@b>") == "503 5.5.1"
    assert session.code(b"DATA") == "354 End d"


def test_refused_mail_begins_no_transaction() -> None:
    session = greeted()
    session.answers[Mail] = replies.SENDER_NOT_YOURS
    assert session.code(b"MAIL FROM:<a@b>") == "550 5.7.1"
    assert session.code(b"RCPT TO:<a@b>") == "503 5.5.1"
    del session.answers[Mail]
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


def test_data_needs_a_valid_recipient() -> None:
    session = greeted()
    session.say(b"MAIL FROM:<a@b>\r\n")
    assert session.code(b"DATA") == "503 5.5.1"
    session.answers[Rcpt] = replies.MAILBOX_UNKNOWN
    assert session.code(b"RCPT TO:<a@b>") == "550 5.1.1"
    assert session.code(b"DATA") == "554 5.5.1"
    del session.answers[Rcpt]
    assert session.code(b"RCPT TO:<a@b>") == "250 2.1.5"
    assert session.code(b"DATA") == "354 End d"


def test_reset_ends_a_transaction_and_tells() -> None:
    session = in_transaction()
    assert session.code(b"RSET") == "250 2.0.0"
    assert session.events == [Reset()]
    assert session.code(b"RCPT TO:<a@b>") == "503 5.5.1"


@pytest.mark.parametrize("reply", [replies.STORAGE_FULL, replies.MAIL_LOOP, replies.queued("X")])
def test_the_end_of_data_ends_the_transaction(reply: Reply) -> None:
    session = in_transaction()
    session.answers[BodyEnd] = reply
    session.say(b"DATA\r\n")
    session.say(b"x\r\n.\r\n")
    assert session.code(b"RCPT TO:<a@b>") == "503 5.5.1"
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


def test_declined_data_is_not_read() -> None:
    session = in_transaction()
    session.answers[DataStart] = replies.STORAGE_FULL
    assert session.codes(b"DATA\r\nNOOP\r\n") == ["452 4.3.1", "250 2.0.0"]
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


# Data


def test_bare_cr_or_lf_in_data_is_reported() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    session.say(b"a\nb\r\n.\r\n")
    assert session.events[-1] == BodyEnd(5, True, False)


def test_null_octets_pass() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    session.say(b"a\0b\r\n.\r\n")
    assert session.events[-2:] == [BodyChunk(b"a\0b\r\n"), BodyEnd(5, False, False)]


def test_declared_size_over_the_limit_is_552() -> None:
    session = greeted()
    assert session.code(b"MAIL FROM:<a@b> SIZE=1001") == "552 5.3.4"
    assert session.code(b"MAIL FROM:<a@b> SIZE=1000") == "250 2.1.0"


def test_too_big_a_message_is_consumed_but_not_passed_on() -> None:
    session = in_transaction()
    session.answers[BodyEnd] = replies.TOO_BIG
    session.say(b"DATA\r\n")
    session.say(b"x" * 998 + b"\r\n")
    session.say(b"y" * 100_000)
    session.say(b"z" * 100_000 + b"\r\n.\r")
    assert session.codes(b"\nNOOP\r\n") == ["552 5.3.4", "250 2.0.0"]
    chunks = [event for event in session.events if isinstance(event, BodyChunk)]
    assert chunks == [BodyChunk(b"x" * 998)]
    assert session.events[-1] == BodyEnd(201_002, False, True)


def test_a_message_of_exactly_the_limit_passes() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    session.say(b"x" * 998 + b"\r\n.\r\n")
    assert session.events[-1] == BodyEnd(1000, False, False)


# STARTTLS


def test_starttls() -> None:
    session = in_transaction()
    assert session.code(b"STARTTLS") == "220 2.0.0"
    assert session.engine.wants_tls
    assert session.engine.next_event() is PAUSED
    session.engine.tls_started()
    assert not session.engine.wants_tls
    assert session.code(b"MAIL FROM:<a@b>") == "503 5.5.1"  # EHLO again
    assert b"STARTTLS" not in session.say(b"EHLO x\r\n")
    assert session.code(b"RCPT TO:<a@b>") == "503 5.5.1"  # the transaction is gone
    assert session.code(b"STARTTLS") == "503 5.5.1"


def test_starttls_forgets_who_was_authenticated() -> None:
    options = ServerOptions(
        HOST, 1000, starttls=True, mechanisms=("PLAIN",), cleartext_auth=True, requires_auth=True
    )
    session = greeted(options)
    session.say(b"AUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n")
    session.engine.tls_started()
    session.say(b"EHLO x\r\n")
    assert not session.engine.authenticated
    assert session.code(b"MAIL FROM:<a@b>") == "530 5.7.0"


def test_plain_text_behind_starttls_is_never_read() -> None:
    session = greeted()
    assert session.codes(b"STARTTLS\r\nMAIL FROM:<evil@b>\r\n") == ["554 5.5.1"]
    assert session.engine.closing
    assert not session.engine.wants_tls
    assert session.events == []


def test_plain_text_instead_of_the_handshake_closes() -> None:
    session = greeted()
    session.say(b"STARTTLS\r\n")
    assert session.say(b"MAIL FROM:<evil@b>\r\n") == b""
    assert session.engine.closing
    assert session.events == []


def test_no_starttls_without_a_certificate() -> None:
    session = greeted(LAB)
    assert session.code(b"STARTTLS") == "502 5.5.1"


# AUTH (RFC 4954)


def test_auth_is_offered_after_tls_only() -> None:
    session = Session(SUBMISSION)
    assert b"AUTH" not in session.say(b"EHLO x\r\n")
    assert session.code(b"AUTH PLAIN AGEAYg==") == "538 5.7.11"[:9]
    session.say(b"STARTTLS\r\n")
    session.engine.tls_started()
    assert b"250-AUTH PLAIN LOGIN\r\n" in session.say(b"EHLO x\r\n")
    assert session.code(b"AUTH PLAIN AGEAYg==") == "235 2.7.0"


def test_submission_needs_tls_then_auth() -> None:
    session = greeted(SUBMISSION)
    assert session.say(b"MAIL FROM:<a@b>\r\n") == (
        b"530 5.7.0 Must issue a STARTTLS command first\r\n"
    )
    session.say(b"STARTTLS\r\n")
    session.engine.tls_started()
    session.say(b"EHLO x\r\n")
    assert session.say(b"MAIL FROM:<a@b>\r\n") == b"530 5.7.0 Authentication required\r\n"
    session.say(b"AUTH PLAIN AGEAYg==\r\n")
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


def test_implicit_tls_offers_auth_at_once() -> None:
    session = Session(SUBMISSION, tls=True)
    lines = session.say(b"EHLO x\r\n")
    assert b"AUTH PLAIN LOGIN" in lines
    assert b"STARTTLS" not in lines


def test_initial_response() -> None:
    session = greeted(LAB)
    assert session.code(b"auth plain " + b64encode(b"\0a\0b")) == "235 2.7.0"
    assert session.engine.authenticated
    assert session.events == [Auth("PLAIN", b"\0a\0b")]
    assert "a" not in repr(session.events[0]).split("PLAIN")[1]


def test_empty_initial_response_is_an_equals_sign() -> None:
    session = greeted(LAB)
    session.say(b"AUTH PLAIN =\r\n")
    session.say(b"RSET\r\n")
    assert session.events[0] == Auth("PLAIN", b"")


def test_challenges_and_responses() -> None:
    session = greeted(LAB)
    session.answers[Auth] = b""
    assert session.say(b"AUTH PLAIN\r\n") == b"334 \r\n"
    assert session.engine.timeout() == 300.0
    assert session.code(b64encode(b"\0a\0b")) == "235 2.7.0"
    assert session.events == [Auth("PLAIN", None), AuthResponse(b"\0a\0b")]
    session = greeted(LAB)
    session.answers[Auth] = b"Username:"
    assert session.say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    session.answers[AuthResponse] = b"Password:"
    assert session.say(b"\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    assert session.events[-1] == AuthResponse(b"")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (b"*", "501 5.7.0"),
        (b"!!!", "501 5.5.2"),
        (b"QUJD ", "501 5.5.2"),
        (b"QUJ", "501 5.5.2"),
        (b"QUJD\n", "501 5.5.2"),
        (b"A" * 12288, "500 5.5.6"),
    ],
)
def test_failed_exchange_goes_back_to_commands(response: bytes, code: str) -> None:
    session = greeted(LAB)
    session.answers[Auth] = b""
    session.say(b"AUTH PLAIN\r\n")
    assert session.code(response) == code
    assert session.code(b"NOOP") == "250 2.0.0"
    assert not session.engine.authenticated
    assert len(session.events) == 1


def test_auth_lines_may_have_12288_octets() -> None:
    session = greeted(LAB)
    session.answers[Auth] = b""
    session.say(b"AUTH PLAIN\r\n")
    assert session.code(b"A" * 12284) == "235 2.7.0"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"AUTH", "501 5.5.4"),
        (b"AUTH CRAM-MD5", "504 5.5.4"),
        (b"AUTH \xff", "504 5.5.4"),
        (b"AUTH PLAIN !", "501 5.5.2"),
        (b"AUTH PLAIN AA== AA==", "501 5.5.2"),
    ],
)
def test_wrong_auth_commands(line: bytes, code: str) -> None:
    assert greeted(LAB).code(line) == code


def test_auth_only_once_and_not_in_a_transaction() -> None:
    session = greeted(LAB)
    session.say(b"MAIL FROM:<a@b>\r\n")
    assert session.code(b"AUTH PLAIN AGEAYg==") == "503 5.5.1"
    session.say(b"RSET\r\nAUTH PLAIN AGEAYg==\r\n")
    assert session.code(b"AUTH PLAIN AGEAYg==") == "503 5.5.1"
    session.say(b"EHLO again\r\n")
    assert session.engine.authenticated


@pytest.mark.parametrize(
    "reply", [replies.AUTHENTICATION_FAILED, replies.AUTHENTICATION_UNAVAILABLE]
)
def test_failed_authentication(reply: Reply) -> None:
    session = greeted(LAB)
    session.answers[Auth] = reply
    assert session.code(b"AUTH PLAIN AGEAYg==") == f"{reply.code} {reply.enhanced}"
    assert not session.engine.authenticated


# Limits, time, the end


def test_recipients_over_the_limit_are_452() -> None:
    session = greeted(ServerOptions(HOST, 1000, limits=Limits(recipients=100)))
    session.say(b"MAIL FROM:<a@b>\r\n")
    codes = session.codes(b"RCPT TO:<a@b>\r\n" * 150)
    assert codes == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 50
    assert session.code(b"DATA") == "354 End d"


def test_too_many_errors_close() -> None:
    session = greeted()
    assert session.codes(b"XYZ\r\n" * 30) == ["500 5.5.2"] * 20 + ["421 4.7.0"]
    assert session.engine.closing


def test_too_many_refusals_close() -> None:
    session = greeted()
    session.answers[Rcpt] = replies.MAILBOX_UNKNOWN
    session.say(b"MAIL FROM:<a@b>\r\n")
    assert session.codes(b"RCPT TO:<a@b>\r\n" * 300) == ["550 5.1.1"] * 200 + ["421 4.7.0"]


def test_an_accepted_message_forgives_errors() -> None:
    session = in_transaction()
    session.say(b"XYZ\r\n" * 19)
    session.say(b"DATA\r\n")
    session.say(b"x\r\n.\r\n")
    assert session.codes(b"XYZ\r\n" * 20) == ["500 5.5.2"] * 20


def test_too_many_commands_close() -> None:
    session = greeted(ServerOptions(HOST, 1000, limits=Limits(commands=5)))
    assert session.codes(b"NOOP\r\n" * 9) == ["250 2.0.0"] * 4 + ["421 4.7.0"]


def test_an_endless_line_closes() -> None:
    session = greeted()
    answer = b""
    for _ in range(20):
        answer += session.say(b"x" * 65536)
    assert answer[:9] == b"421 4.7.0"
    assert session.engine.closing


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"CONNECT a:25 HTTP/1.1"])
def test_web_clients_are_cut_off(line: bytes) -> None:
    session = Session()
    assert session.codes(line + b"\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n") == ["421 4.7.0"]


def test_timeout() -> None:
    session = greeted()
    session.engine.timed_out()
    assert b"".join(session.engine.data_to_send())[:9] == b"421 4.4.2"
    assert session.engine.closing


def test_timeout_in_the_handshake_says_nothing() -> None:
    session = greeted()
    session.say(b"STARTTLS\r\n")
    session.engine.timed_out()
    assert session.engine.data_to_send() == []
    assert session.engine.closing


def test_end_of_stream_closes_after_what_was_sent() -> None:
    session = greeted()
    session.engine.receive(b"NOOP\r\nNOO")
    assert session.codes(b"") == ["250 2.0.0"]
    assert session.engine.closing


def test_end_of_stream_in_data_ends_nothing() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    session.say(b"x\r\n.\r")
    session.say(b"")
    assert session.engine.closing
    assert not any(isinstance(event, BodyEnd) for event in session.events)


def test_shut_down_between_commands() -> None:
    session = greeted()
    session.engine.shut_down()
    assert session.codes(b"NOOP\r\n") == ["421 4.3.2"]
    assert session.engine.closing


def test_shut_down_lets_the_message_in_hand_finish() -> None:
    session = in_transaction()
    session.say(b"DATA\r\n")
    session.engine.shut_down()
    assert session.codes(b"x\r\n.\r\nNOOP\r\n") == ["250 2.0.0", "421 4.3.2"]


def test_421_by_the_service_closes() -> None:
    session = greeted()
    session.answers[Mail] = replies.SHUTTING_DOWN
    assert session.codes(b"MAIL FROM:<a@b>\r\nNOOP\r\n") == ["421 4.3.2"]
    assert session.engine.closing

"""The SMTP client engine against scripted peers (RFC 5321 §3, §4.2, §4.5.4; RFC 2033, 2920, 3207, 4954)."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from pillarbox.core.address import Address
from pillarbox.core.engine import NEED_DATA, PAUSED, Wait
from pillarbox.core.secret import Secret
from pillarbox.smtp import client_commands as commands
from pillarbox.smtp.client import SmtpClient
from pillarbox.smtp.client_events import (
    BodyWanted,
    ClientOptions,
    Closed,
    Credentials,
    Done,
    Envelope,
    Event,
    Failed,
    Kind,
    Outcome,
    Ready,
    ReadyForDot,
    Recipient,
    Stage,
    TlsMode,
)
from pillarbox.smtp.client_reply import Peer

PLAIN = ClientOptions("us.example", tls=TlsMode.NEVER)
LMTP = ClientOptions("us.example", lmtp=True, tls=TlsMode.NEVER)
HELLO = b"250-mx.example hello\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 DSN\r\n"
OLD_HELLO = b"250 mx.example\r\n"
OK = b"250 2.0.0 Ok\r\n"
GO = b"354 go on\r\n"
A, B, C = (Recipient(Address(local, "there.example")) for local in "abc")
SENDER = Address("me", "us.example")
BODY = b"Subject: x\r\n\r\n.dot\r\n"


class Session:
    """Feeds an engine and keeps what comes out."""

    def __init__(self, options: ClientOptions = PLAIN, body: bytes = BODY, *, tls: bool = False):
        self.engine = SmtpClient(options, tls=tls)
        self.sent = b""
        self.events: list[Event] = []
        self.body: list[bytes] = [body]
        self.finishes = True

    def feed(self, *data: bytes) -> "Session":
        for piece in data or (None,):
            if piece is not None:
                self.engine.receive(piece)
            self._turns()
        return self

    def _turns(self) -> None:
        while True:
            while not isinstance(event := self.engine.next_event(), Wait):
                self.events.append(event)
                self._answer(event)
            output = b"".join(self.engine.data_to_send())
            self.sent += output
            if not output:
                return

    def _answer(self, event: Event) -> None:
        if isinstance(event, BodyWanted):
            piece = self.body.pop(0) if self.body else b""
            self.engine.send_body(piece, is_last=not self.body)
        elif isinstance(event, ReadyForDot) and self.finishes:
            self.engine.finish()

    def take_sent(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent

    @property
    def outcomes(self) -> list[Outcome]:
        done = self.events[-1]
        assert isinstance(done, Done)
        return done.outcomes


def ready(hello: bytes = HELLO, options: ClientOptions = PLAIN) -> Session:
    session = Session(options).feed(b"220 mx.example ESMTP\r\n", hello)
    assert isinstance(session.events.pop(), Ready)
    session.take_sent()
    return session


def sending(
    *recipients: Recipient, hello: bytes = HELLO, options: ClientOptions = PLAIN
) -> Session:
    session = ready(hello, options)
    session.engine.send_message(Envelope(SENDER, list(recipients), len(BODY)))
    return session.feed()


def kinds(outcomes: list[Outcome]) -> str:
    return "".join(outcome.kind.value[0] for outcome in outcomes)


def test_a_transaction_is_pipelined() -> None:
    session = sending(A, B)
    assert session.take_sent() == (
        b"MAIL FROM:<me@us.example> SIZE=20\r\nRCPT TO:<a@there.example>\r\n"
        b"RCPT TO:<b@there.example>\r\nDATA\r\n"
    )
    session.feed(OK + OK + OK + GO)
    assert session.take_sent() == b"Subject: x\r\n\r\n..dot\r\n.\r\n"
    session.feed(b"250 2.6.0 queued\r\n")
    assert kinds(session.outcomes) == "dd"
    assert session.outcomes[0].reply.text == "queued"
    assert not session.engine.closing


def test_without_pipelining_each_command_waits() -> None:
    session = sending(A, B, hello=OLD_HELLO)
    said = [session.take_sent()]
    for reply in (OK, b"550 5.1.1 no\r\n", OK, GO, OK):
        said.append(session.feed(reply).take_sent())
    assert said == [
        b"MAIL FROM:<me@us.example>\r\n",
        b"RCPT TO:<a@there.example>\r\n",
        b"RCPT TO:<b@there.example>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..dot\r\n.\r\n",
        b"",
    ]
    assert kinds(session.outcomes) == "pd"


def test_without_pipelining_no_data_without_a_recipient() -> None:
    session = sending(A, hello=OLD_HELLO)
    session.feed(OK, b"450 4.2.0 greylisted\r\n")
    assert b"DATA" not in session.sent
    assert kinds(session.outcomes) == "t"


def test_refused_sender_is_for_all_recipients() -> None:
    session = sending(A, B)
    session.feed(b"550 5.7.1 not you\r\n" + b"503 5.5.1 no\r\n" * 3)
    assert [(o.stage, o.reply.code) for o in session.outcomes] == [(Stage.MAIL, 550)] * 2


def test_refused_data_is_for_all_accepted_recipients() -> None:
    session = sending(A, B, C)
    session.feed(OK, OK, b"550 5.1.1 no\r\n", OK, b"554 5.7.1 no data\r\n")
    assert [(o.stage, o.reply.code) for o in session.outcomes] == [
        (Stage.DATA, 554),
        (Stage.RCPT, 550),
        (Stage.DATA, 554),
    ]


def test_a_354_without_recipients_is_ended_by_a_dot() -> None:
    session = sending(A)
    session.take_sent()
    session.feed(OK, b"550 no\r\n", GO)
    assert session.take_sent() == b".\r\n"
    session.feed(b"554 no recipients\r\n")
    assert session.outcomes[0].stage is Stage.RCPT


def test_rset_stands_before_the_next_message_only_when_needed() -> None:
    session = sending(A)
    session.feed(OK, b"550 no\r\n", b"554 no\r\n")
    session.take_sent()
    session.engine.send_message(Envelope(None, [B], 5))
    assert session.feed().take_sent() == (
        b"RSET\r\nMAIL FROM:<> SIZE=5\r\nRCPT TO:<b@there.example>\r\nDATA\r\n"
    )
    session.feed(OK * 3, GO, OK)
    assert kinds(session.outcomes) == "d"
    session.take_sent()
    session.engine.send_message(Envelope(None, [B], 5))
    assert session.feed().take_sent().startswith(b"MAIL")


def test_too_many_recipients_is_told_apart_from_a_full_mailbox() -> None:
    session = sending(A, B, C)
    session.feed(OK, OK, b"552 too many\r\n", b"552 5.2.2 full\r\n", GO, OK)
    assert kinds(session.outcomes) == "dtp"
    assert [o.too_many_recipients for o in session.outcomes] == [False, True, False]


def test_dsn_parameters_go_only_to_peers_with_dsn() -> None:
    recipient = Recipient(A.address, "SUCCESS,FAILURE", "rfc822;x@us.example")
    envelope = Envelope(SENDER, [recipient], 9, ret="HDRS", envid="id+2B1")
    session = ready()
    session.engine.send_message(envelope)
    assert session.feed().sent.split(b"\r\n")[:2] == [
        b"MAIL FROM:<me@us.example> SIZE=9 RET=HDRS ENVID=id+2B1",
        b"RCPT TO:<a@there.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@us.example",
    ]
    session = ready(b"250-mx\r\n250 PIPELINING\r\n")
    session.engine.send_message(envelope)
    assert session.feed().sent.startswith(
        b"MAIL FROM:<me@us.example>\r\nRCPT TO:<a@there.example>\r\n"
    )


@pytest.mark.parametrize(
    ("envelope", "reply"),
    [
        (Envelope(SENDER, [A], 1001), commands.TOO_BIG_FOR_PEER),
        (Envelope(SENDER, [A], 9, utf8=True), commands.NO_UTF8_HEADER),
        (Envelope(Address("jö", "x"), [A], 9), commands.NO_SMTPUTF8),
        (Envelope(SENDER, [Recipient(Address("jö", "x"))], 9), commands.NO_SMTPUTF8),
    ],
)
def test_what_the_peer_cannot_take_is_not_sent(envelope: Envelope, reply: object) -> None:
    session = ready()
    session.engine.send_message(envelope)
    assert session.feed().sent == b""
    assert [(o.reply, o.stage, o.from_peer) for o in session.outcomes] == [
        (reply, Stage.CHECK, False)
    ]


def test_eight_bit_needs_8bitmime() -> None:
    envelope = Envelope(SENDER, [A], 9, eight_bit=True)
    session = ready()
    session.engine.send_message(envelope)
    assert b"SIZE=9 BODY=8BITMIME\r\n" in session.feed().sent
    session = ready(OLD_HELLO)
    session.engine.send_message(envelope)
    assert session.feed().outcomes[0].reply is commands.NO_8BITMIME


UTF8_HELLO = b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n"


def test_domains_go_as_a_labels_where_nothing_else_needs_smtputf8() -> None:
    """RFC 6531 §3.2, §3.4"""
    recipient = Recipient(Address("x", "bücher.example"))
    for hello in (b"250-mx\r\n250 PIPELINING\r\n", UTF8_HELLO):
        session = ready(hello)
        session.engine.send_message(Envelope(Address("me", "grün.example"), [recipient], 1))
        assert session.feed().sent.startswith(
            b"MAIL FROM:<me@xn--grn-ioa.example>\r\nRCPT TO:<x@xn--bcher-kva.example>\r\n"
        )


def test_smtputf8_is_said_where_it_is_needed() -> None:
    for envelope in (
        Envelope(SENDER, [A], 9, eight_bit=True, utf8=True),
        Envelope(Address("jö", "x"), [A], 9),
        Envelope(SENDER, [Recipient(Address("jö", "bücher.example"), orcpt="utf-8;jö@x")], 9),
    ):
        session = ready(UTF8_HELLO)
        session.engine.send_message(envelope)
        mail, rcpt = session.feed().sent.decode().split("\r\n")[:2]
        assert mail.endswith(" SMTPUTF8")
        if "j" in rcpt:
            assert rcpt == "RCPT TO:<jö@bücher.example> ORCPT=utf-8;jö@x"


def test_an_original_recipient_in_utf8_is_seven_bit_for_who_has_no_smtputf8() -> None:
    """RFC 6533 §3"""
    session = ready(b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n")
    recipient = Recipient(A.address, orcpt="utf-8;jö+\\x{3D}@x")
    session.engine.send_message(Envelope(SENDER, [recipient], 9))
    assert b"ORCPT=utf-8;j\\x{F6}+\\x{3D}@x\r\n" in session.feed().sent


def test_control_characters_cannot_smuggle_a_command() -> None:
    session = ready()
    with pytest.raises(ValueError):
        session.engine.send_message(Envelope(Address("x\r\nRCPT TO:<y@z>", "a"), [A], 1))
    session.engine.send_message(Envelope(SENDER, [A], 1))


# Opening


def test_helo_where_ehlo_is_not_known() -> None:
    session = Session().feed(b"220 old\r\n", b"500 what\r\n")
    assert session.sent == b"EHLO us.example\r\nHELO us.example\r\n"
    session.feed(b"250-old.example\r\n250 PIPELINING\r\n")
    assert session.events == [Ready(Peer("old.example"))]


@pytest.mark.parametrize(
    ("replies", "stage", "code"),
    [
        ([b"421 busy\r\n"], Stage.GREETING, 421),
        ([b"450 later\r\n"], Stage.GREETING, 450),
        ([b"554 no mail here\r\n"], Stage.GREETING, 554),
        ([b"220 x\r\n", b"451 no\r\n"], Stage.HELLO, 451),
        ([b"220 x\r\n", b"502 no\r\n", b"502 no\r\n"], Stage.HELLO, 502),
        ([b"220 x\r\n", b"421 no\r\n"], Stage.HELLO, 421),
    ],
)
def test_a_session_that_cannot_begin(replies: list[bytes], stage: Stage, code: int) -> None:
    session = Session().feed(*replies)
    failed = session.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.outcome.stage, failed.outcome.reply.code) == (stage, code)
    assert session.engine.closing
    assert session.sent.endswith(b"QUIT\r\n") == (code != 421)


def test_starttls_then_ehlo_again() -> None:
    session = Session(ClientOptions("us.example"))
    session.feed(b"220 x\r\n", b"250-x\r\n250-SIZE 5\r\n250 STARTTLS\r\n")
    assert session.take_sent() == b"EHLO us.example\r\nSTARTTLS\r\n"
    session.feed(b"220 go\r\n")
    assert session.engine.wants_tls
    assert session.engine.next_event() is PAUSED
    session.engine.tls_started()
    assert session.feed().take_sent() == b"EHLO us.example\r\n"
    session.feed(b"250 x\r\n")
    assert session.events == [Ready(Peer("x"))]
    assert session.engine.tls
    assert not session.engine.wants_tls


@pytest.mark.parametrize("extra", [b"2", b"250 injected\r\n"])
def test_nothing_may_stand_behind_the_reply_to_starttls(extra: bytes) -> None:
    start = (b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n")
    for cut in ([b"220 go\r\n" + extra], [b"220 go\r\n", extra]):
        session = Session(ClientOptions("us.example")).feed(*start, *cut)
        assert session.events == [
            Failed(Outcome(Kind.TEMPORARY, Stage.STARTTLS, commands.TLS_INJECTION, False))
        ]
        assert session.engine.closing
        assert not session.engine.wants_tls


@pytest.mark.parametrize("replies", [[b"250 x\r\n"], [b"250-x\r\n250 STARTTLS\r\n", b"454 no\r\n"]])
def test_tls_mode_says_whether_the_clear_will_do(replies: list[bytes]) -> None:
    session = Session(ClientOptions("us.example")).feed(b"220 x\r\n", *replies)
    assert isinstance(session.events[-1], Ready)
    options = ClientOptions("us.example", tls=TlsMode.ALWAYS)
    session = Session(options).feed(b"220 x\r\n", *replies)
    failed = session.events[-1]
    assert isinstance(failed, Failed)
    assert failed.outcome.stage is Stage.STARTTLS
    assert session.sent.endswith(b"QUIT\r\n")


def with_login(password: str = "secret") -> ClientOptions:
    return ClientOptions("us.example", credentials=Credentials("tim", Secret(password)))


def test_auth_plain_under_tls() -> None:
    session = Session(with_login(), tls=True)
    session.feed(b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN plain\r\n")
    assert session.sent.endswith(b"AUTH PLAIN " + b64encode(b"\0tim\0secret") + b"\r\n")
    assert isinstance(session.feed(b"235 ok\r\n").events[-1], Ready)


def test_a_long_auth_plain_waits_for_the_empty_challenge() -> None:
    session = Session(with_login("x" * 400), tls=True)
    session.feed(b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN\r\n")
    assert session.sent.endswith(b"AUTH PLAIN\r\n")
    session.feed(b"334 \r\n", b"235 ok\r\n")
    assert session.sent.endswith(b64encode(b"\0tim\0" + b"x" * 400) + b"\r\n")


def test_auth_login() -> None:
    session = Session(with_login(), tls=True)
    session.feed(
        b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n", b"334 UA==\r\n"
    )
    assert session.sent.endswith(b"AUTH LOGIN\r\n" + b64encode(b"tim") + b"\r\nc2VjcmV0\r\n")
    session.feed(b"535 5.7.8 wrong\r\n")
    failed = session.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.outcome.kind, failed.outcome.stage) == (Kind.PERMANENT, Stage.AUTH)


def test_no_password_without_tls() -> None:
    session = Session(with_login()).feed(b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN LOGIN\r\n")
    assert b"AUTH" not in session.sent
    failed = session.events[-1]
    assert isinstance(failed, Failed)
    assert failed.outcome.reply is commands.NO_TLS_FOR_AUTH


def test_a_challenge_too_many_ends_the_session() -> None:
    session = Session(with_login(), tls=True)
    session.feed(b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", b"334 \r\n")
    assert isinstance(session.events[-1], Failed)


# Loss, garbage, the dot


def script() -> list[bytes]:
    """Replies up to the reply to the dot."""
    return [b"220 x\r\n", HELLO, OK, OK, b"550 5.1.1 no\r\n", GO, OK]


def stages() -> Iterator[tuple[int, Stage, bool]]:
    names = [Stage.GREETING, Stage.HELLO, Stage.MAIL, Stage.RCPT, Stage.RCPT, Stage.DATA, Stage.DOT]
    for count, stage in enumerate(names):
        yield count, stage, count >= 2


@pytest.mark.parametrize(("count", "stage", "in_transaction"), list(stages()))
@pytest.mark.parametrize("how", ["end", "cut", "421", "garbage", "time"])
def test_loss_at_any_step(count: int, stage: Stage, in_transaction: bool, how: str) -> None:
    session = Session()
    for index, reply in enumerate(script()[:count]):
        session.feed(reply)
        if index == 1:
            session.engine.send_message(Envelope(SENDER, [A, B], 20))
    if how == "time":
        assert session.engine.timeout() is not None
        session.engine.timed_out()
        session.feed()
    else:
        loss = {
            "end": [b""],
            "cut": [b"25", b""],
            "421": [b"421 bye\r\n"],
            "garbage": [b"EHLO?\r\n"],
        }
        session.feed(*loss[how])
    assert session.engine.closing
    last = session.events[-1]
    if not in_transaction:
        assert isinstance(last, Failed)
        assert (last.outcome.kind, last.outcome.stage) == (Kind.TEMPORARY, stage)
        return
    a, b = session.outcomes
    assert (a.kind, a.stage, a.from_peer) == (Kind.TEMPORARY, stage, how == "421")
    assert b.kind is (Kind.PERMANENT if count > 4 else Kind.TEMPORARY)
    assert a.in_doubt == (stage is Stage.DOT and how != "421")


@pytest.mark.parametrize(
    "early", [b"250 2.0.0 Ok\r\n", b"25", b"552 5.3.4 enough\r\n", b"421 bye\r\n"]
)
def test_what_is_said_before_the_dot_never_counts_as_delivery(early: bytes) -> None:
    session = sending(A)
    session.finishes = False
    session.feed(OK, OK, GO)
    assert isinstance(session.events[-1], ReadyForDot)
    session.take_sent()
    session.engine.receive(early)
    session.engine.finish()
    session.feed()
    assert session.sent == b""
    assert session.outcomes[0].kind is not Kind.DELIVERED
    assert session.engine.closing


def test_a_refusal_during_mail_data_ends_the_session() -> None:
    session = sending(A)
    session.feed(OK, OK, GO + b"552 5.3.4 too big\r\n")
    assert [(o.kind, o.stage) for o in session.outcomes] == [(Kind.PERMANENT, Stage.BODY)]
    assert b".\r\n" not in session.sent
    assert session.engine.closing


def test_abort_sends_no_dot() -> None:
    session = sending(A)
    session.finishes = False
    session.feed(OK, OK, GO)
    session.engine.abort()
    session.feed()
    assert session.outcomes[0].reply is commands.ABORTED
    assert not session.outcomes[0].in_doubt
    assert not session.sent.endswith(b"\r\n.\r\n")
    assert session.engine.closing


def test_the_body_is_asked_for_only_when_output_was_taken() -> None:
    session = ready()
    engine = session.engine
    engine.send_message(Envelope(SENDER, [A], 9))
    engine.data_to_send()
    engine.receive(OK + OK + GO)
    assert engine.next_event() == BodyWanted()
    assert engine.next_event() is PAUSED
    assert engine.timeout() is None
    engine.send_body(b"x", is_last=False)
    assert engine.next_event() is PAUSED
    assert engine.timeout() == 180
    assert engine.data_to_send() == [b"x"]
    assert engine.next_event() == BodyWanted()
    engine.send_body(b"y", is_last=True)
    assert engine.next_event() == ReadyForDot()
    engine.finish()
    assert engine.data_to_send() == [b"y", b"\r\n.\r\n"]
    assert engine.next_event() is NEED_DATA
    assert engine.timeout() == 600


def test_timeouts_are_those_of_rfc_5321() -> None:
    session = Session()
    waits = [session.engine.timeout()]
    for index, reply in enumerate(script()):
        session.feed(reply)
        if index == 1:
            session.engine.send_message(Envelope(SENDER, [A, B], 20))
        waits.append(session.engine.timeout())
    assert waits == [300, 300, 300, 300, 300, 120, 600, None]


def test_a_peer_may_leave_between_messages() -> None:
    session = ready().feed(b"421 4.4.2 idle\r\n")
    closed = session.events[-1]
    assert isinstance(closed, Closed)
    assert closed.outcome.stage is Stage.IDLE


def test_quit_closes_on_any_reply_or_none() -> None:
    for last in (b"221 bye\r\n", b"500 what\r\n", b""):
        session = ready()
        session.engine.quit()
        assert session.feed(last).sent == b"QUIT\r\n"
        assert session.engine.closing
        assert session.events == []


def test_calls_out_of_order_raise() -> None:
    engine = Session().engine
    for call in (engine.quit, engine.finish, lambda: engine.send_body(b"", is_last=True)):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError):
        engine.send_message(Envelope(SENDER, [A], 1))


# LMTP


def test_lmtp_replies_for_each_recipient() -> None:
    session = sending(A, B, C, options=LMTP)
    session.feed(OK, OK, b"550 5.1.1 no\r\n", OK, GO)
    session.feed(OK, b"452 4.2.2 full\r\n")
    assert kinds(session.outcomes) == "dpt"
    assert not session.engine.closing


def test_lmtp_says_lhlo_and_falls_back_to_nothing() -> None:
    session = Session(LMTP).feed(b"220 x\r\n", b"500 what\r\n")
    assert session.sent == b"LHLO us.example\r\nQUIT\r\n"
    assert isinstance(session.events[-1], Failed)


def test_lmtp_lost_between_replies_keeps_what_is_known() -> None:
    session = sending(A, B, options=LMTP)
    session.feed(OK, OK, OK, GO, OK, b"")
    assert kinds(session.outcomes) == "dt"
    assert [o.in_doubt for o in session.outcomes] == [False, True]


# LIMITS (RFC 9422)


def limited(text: bytes) -> "Session":
    return ready(b"250-mx\r\n250-PIPELINING\r\n250 LIMITS " + text + b"\r\n")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("RCPTMAX=20", "RCPTMAX", 20),
        ("mailmax=5 X rcptmax=7", "RCPTMAX", 7),
        ("RCPTMAX=0", "RCPTMAX", None),
        ("RCPTMAX=1000000", "RCPTMAX", None),
        ("RCPTMAX=x RCPTMAX=3", "RCPTMAX", 3),
        ("MAILMAX=5", "RCPTMAX", None),
        ("", "MAILMAX", None),
    ],
)
def test_limits_are_read_where_they_make_sense(text: str, name: str, value: int | None) -> None:
    assert Peer("mx", {"LIMITS": text}).limit(name) == value


def test_recipients_over_rcptmax_go_in_another_transaction() -> None:
    session = limited(b"RCPTMAX=2")
    session.engine.send_message(Envelope(SENDER, [A, B, C], 9))
    assert session.feed().sent.count(b"RCPT TO") == 2
    session.feed(OK, OK, OK, GO, OK)
    assert kinds(session.outcomes) == "ddt"
    assert session.outcomes[2].too_many_recipients
    assert not session.outcomes[2].from_peer


def test_over_mailmax_the_session_has_no_room() -> None:
    session = limited(b"MAILMAX=1")
    assert session.engine.has_room
    session.engine.send_message(Envelope(SENDER, [A], 9))
    session.feed(OK, OK, GO, OK)
    assert not session.engine.has_room


def test_domains_over_rcptdomainmax_wait_for_another_session() -> None:
    session = limited(b"RCPTDOMAINMAX=1")
    other = Recipient(Address("x", "other.example"))
    session.engine.send_message(Envelope(SENDER, [A, other, B], 9))
    session.feed(OK, OK, OK, GO, OK)
    assert kinds(session.outcomes) == "dtd"
    assert not session.engine.has_room

"""What errors cost: time, and at last the connection."""

import pytest
from test_server import HOST, Session, greeted

from pillarbox.core.engine import NEED_DATA, PAUSED
from pillarbox.smtp import reply as replies
from pillarbox.smtp.conduct import Conduct
from pillarbox.smtp.events import Delay, Mail, Xclient
from pillarbox.smtp.options import Limits, ServerOptions
from pillarbox.smtp.server import SmtpServer
from pillarbox.smtp.xclient import parse_xclient

SLOW = ServerOptions(
    HOST, 1000, limits=Limits(errors_at_once=1, error_delay_s=2.0, longest_delay_s=5.0, errors=6)
)


GONE = b"Service not available, closing transmission channel\r\n"


def test_the_delay_grows_to_its_limit() -> None:
    conduct = Conduct(SLOW.limits)
    delays = []
    for _ in range(5):
        conduct.errors += 1
        delays.append(conduct.delay_s())
    assert delays == [0.0, 2.0, 4.0, 5.0, 5.0]
    conduct.message_accepted()
    assert conduct.delay_s() == 0.0


def slow() -> SmtpServer:
    session = greeted(SLOW)
    assert session.code(b"BAD") == "500 5.5.2"
    return session.engine


def test_an_error_waits_and_everything_behind_it() -> None:
    engine = slow()
    engine.receive(b"BAD\r\nNOOP\r\n")
    assert engine.next_event() == Delay(2.0)
    assert engine.next_event() is PAUSED
    assert engine.timeout() is None
    assert engine.data_to_send() == []
    engine.end_delay()
    assert engine.next_event() is NEED_DATA
    said = b"".join(engine.data_to_send())
    assert said == b"500 5.5.2 Command not recognized\r\n250 2.0.0 Ok\r\n"


def test_a_refusal_by_the_service_waits_too() -> None:
    engine = slow()
    engine.receive(b"MAIL FROM:<a@b>\r\n")
    assert isinstance(engine.next_event(), Mail)
    engine.send(replies.SENDER_NOT_YOURS)
    assert engine.next_event() == Delay(2.0)
    assert engine.data_to_send() == []
    engine.end_delay()
    assert b"".join(engine.data_to_send()).startswith(b"550 5.7.1 ")


def test_what_ends_the_connection_does_not_wait() -> None:
    engine = slow()
    engine.receive(b"BAD\r\n")
    assert engine.next_event() == Delay(2.0)
    engine.shut_down()
    assert engine.closing
    assert b"".join(engine.data_to_send()).endswith(b"421 4.3.2 " + GONE)
    engine.end_delay()
    assert engine.next_event() is PAUSED


def test_the_end_of_the_stream_waits_for_the_answer() -> None:
    engine = slow()
    engine.receive(b"BAD\r\n")
    engine.receive(b"")
    assert engine.next_event() == Delay(2.0)
    engine.end_delay()
    assert engine.next_event() is PAUSED
    assert engine.closing
    assert b"".join(engine.data_to_send()) == b"500 5.5.2 Command not recognized\r\n"


@pytest.mark.parametrize(
    ("argument", "attributes"),
    [
        (b"ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
        (b"name=a+2Bb  Helo=[unavailable]", {"NAME": "a+b", "HELO": ""}),
        (b"", None),
        (b"ADDR", None),
        (b"ADDR=", None),
        (b"ADDR=1 ADDR=2", None),
        (b"COLOR=red", None),
        (b"HELO=a+0D+0Ab", None),
        (b"HELO=\xc3\xbc", None),
        (b"HELO=" + b"x" * 256, None),
    ],
)
def test_xclient_attributes(argument: bytes, attributes: dict[str, str] | None) -> None:
    assert parse_xclient(argument) == attributes


def test_xclient_begins_the_session_anew() -> None:
    engine = SmtpServer(ServerOptions(HOST, 1000), xclient=True)
    engine.send(replies.greeting(HOST))
    session = Session()
    session.engine = engine
    session.say(b"EHLO a\r\n")
    engine.receive(b"XCLIENT ADDR=192.0.2.1\r\nMAIL FROM:<a@b>\r\n")
    assert engine.next_event() == Xclient({"ADDR": "192.0.2.1"})
    engine.send(replies.greeting(HOST))
    assert engine.next_event() is NEED_DATA
    said = b"".join(engine.data_to_send())
    assert said.startswith(b"220 mail.example.com ESMTP Pillarbox\r\n503 5.5.1 ")


def test_speaking_before_the_greeting_is_seen() -> None:
    engine = SmtpServer(SLOW)
    assert not engine.has_input
    engine.receive(b"E")
    assert engine.has_input
    engine.refuse(replies.SPOKE_EARLY)
    assert engine.closing
    with pytest.raises(RuntimeError):
        slow().refuse(replies.SPOKE_EARLY)

"""Whatever a client sends, and however it is cut: who looks on sees the same lines, and never a password."""

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.engine import Heard, Wait
from pillarbox.imap import events as imap_events
from pillarbox.imap.server import Server
from pillarbox.pop3 import events as pop3_events
from pillarbox.pop3.options import ServerOptions as Pop3Options
from pillarbox.pop3.server import Pop3Server
from pillarbox.smtp import events as smtp_events
from pillarbox.smtp import reply
from pillarbox.smtp.options import ServerOptions as SmtpOptions
from pillarbox.smtp.server import SmtpServer

PASSWORD = b"X7-hush-X7"
CODED = b64encode(b"\0al\0" + PASSWORD)
ALONE = b64encode(PASSWORD)
SECRETS = (PASSWORD, CODED, ALONE)

SMTP_LINES = [
    b"EHLO x",
    b"AUTH PLAIN " + CODED,
    b"AUTH PLAIN",
    b"AUTH LOGIN",
    b"auth login " + ALONE,
    b"AUTH " + CODED,
    CODED,
    ALONE,
    PASSWORD,
    b"*",
    b"MAIL FROM:<a@b.example>",
    b"RCPT TO:<c@d.example>",
    b"RSET",
    b"NOOP",
    b"QUITE " + PASSWORD,
]
IMAP_LINES = [
    b"a LOGIN al " + PASSWORD,
    b'a login "al" "' + PASSWORD + b'"',
    b"a LOGIN {2}",
    b"al {10}",
    b"al {10+}",
    b"a LOGIN al {10+}",
    b"a LOGIN {2+}",
    b"a LOGIN",
    b"a LOGIN " + PASSWORD,
    PASSWORD,
    PASSWORD + b" x",
    b"a AUTHENTICATE PLAIN",
    b"a AUTHENTICATE PLAIN " + CODED,
    b"a AUTHENTICATE " + CODED,
    CODED,
    ALONE,
    b"*",
    b"a NOOP",
    b"a CAPABILITY",
    b"",
]
POP3_LINES = [
    b"USER al",
    b"PASS " + PASSWORD,
    b"pass " + PASSWORD,
    b"AUTH PLAIN",
    b"AUTH PLAIN " + CODED,
    b"AUTH " + CODED,
    b"APOP al " + PASSWORD,
    CODED,
    ALONE,
    PASSWORD,
    b"*",
    b"CAPA",
    b"STAT",
]


def run_smtp(pieces: list[bytes]) -> list[bytes]:
    lines: list[Heard] = []
    engine = SmtpServer(
        SmtpOptions("mx.example", 1000, mechanisms=("PLAIN", "LOGIN"), cleartext_auth=True)
    )
    engine.send(reply.greeting("mx.example"))
    engine.observe(lines.append)
    for piece in pieces:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            match event:
                case smtp_events.Hello():
                    engine.send(engine.hello_reply())
                case smtp_events.Auth() | smtp_events.AuthResponse():
                    if len(lines) % 2:
                        engine.send_challenge(b"")
                    else:
                        engine.send(reply.AUTHENTICATION_FAILED)
                case smtp_events.Mail() | smtp_events.Rcpt():
                    engine.send(reply.OK)
                case smtp_events.Delay():
                    engine.end_delay()
    return [line.text for line in lines]


def run_imap(pieces: list[bytes]) -> list[bytes]:
    lines: list[Heard] = []
    engine = Server()
    engine.send_greeting("ready", b"")
    engine.observe(lines.append)
    for piece in pieces:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            match event:
                case imap_events.Command(name="AUTHENTICATE") if len(lines) % 2:
                    engine.challenge(b"")
                case imap_events.Command() | imap_events.AuthResponse():
                    engine.send_tagged(b"NO", "No")
    return [line.text for line in lines]


def run_pop3(pieces: list[bytes]) -> list[bytes]:
    lines: list[Heard] = []
    engine = Pop3Server(Pop3Options(cleartext_login=True))
    engine.send_ok("ready")
    engine.observe(lines.append)
    for piece in pieces:
        engine.receive(piece)
        while not isinstance(event := engine.next_event(), Wait):
            if isinstance(event, pop3_events.Auth | pop3_events.AuthResponse) and len(lines) % 2:
                engine.send_challenge(b"")
            else:
                engine.send_err("no", "AUTH")
    return [line.text for line in lines]


@st.composite
def cut_input(draw: st.DrawFn, lines: list[bytes]) -> tuple[bytes, list[bytes]]:
    octets = b"".join(
        line + b"\r\n" for line in draw(st.lists(st.sampled_from(lines), max_size=12))
    )
    cuts = sorted(draw(st.sets(st.integers(0, len(octets)), max_size=8)))
    ends = [*cuts, len(octets)]
    pieces = [octets[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    return octets, [piece for piece in pieces if piece]


def check(whole: list[bytes], cut: list[bytes]) -> None:
    assert whole == cut
    for line in whole:
        assert not any(secret in line for secret in SECRETS), line


@given(cut_input(SMTP_LINES))
def test_no_secret_of_smtp_is_shown(drawn: tuple[bytes, list[bytes]]) -> None:
    octets, pieces = drawn
    check(run_smtp([octets]) if octets else [], run_smtp(pieces))


@given(cut_input(IMAP_LINES))
def test_no_secret_of_imap_is_shown(drawn: tuple[bytes, list[bytes]]) -> None:
    octets, pieces = drawn
    check(run_imap([octets]) if octets else [], run_imap(pieces))


@given(cut_input(POP3_LINES))
def test_no_secret_of_pop3_is_shown(drawn: tuple[bytes, list[bytes]]) -> None:
    octets, pieces = drawn
    check(run_pop3([octets]) if octets else [], run_pop3(pieces))

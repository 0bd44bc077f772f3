"""What the engine refuses by itself is told at once, without secrets and within bounds."""

from pillarbox.smtp.options import Limits, ServerOptions
from pillarbox.smtp.reply import greeting
from pillarbox.smtp.server import LONGEST_REFUSED, MOST_REFUSED, SmtpServer


def engine() -> SmtpServer:
    made = SmtpServer(ServerOptions("mail.example.org", 1000, mechanisms=("PLAIN",)))
    made.send(greeting("mail.example.org"))
    return made


def said(made: SmtpServer, *lines: bytes) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    made.on_refused = lambda command, reply: told.append((command, reply.code))
    for line in lines:
        made.receive(line + b"\r\n")
        made.next_event()
    return told


def test_addresses_are_shown_with_their_command() -> None:
    made = engine()
    made.receive(b"EHLO x\r\n")
    made.next_event()
    made.send(made.hello_reply())
    assert said(made, b"MAIL FROM:<a@b.example> SIZE=9999", b"RCPT TO:<c@d.example>") == [
        ("MAIL FROM:<a@b.example> SIZE=9999", 552),
        ("RCPT TO:<c@d.example>", 503),
    ]


def test_of_other_commands_only_the_verb_is_shown_if_it_is_one() -> None:
    assert said(
        engine(), b"AUTH PLAIN c2VjcmV0", b"hunter2", b"\xff\xff\xff\xff", b"GET / HTTP/1.1"
    ) == [
        ("AUTH", 503),
        ("?", 500),
        ("?", 500),
        ("?", 421),
    ]


def test_what_is_told_is_bounded() -> None:
    made = SmtpServer(ServerOptions("mail.example.org", 1000, limits=Limits(errors=1000)))
    made.send(greeting("mail.example.org"))
    lines = [b"MAIL FROM:<" + b"x" * 450 + b">"] * (MOST_REFUSED + 5)
    told = said(made, *lines)
    assert len(told) == MOST_REFUSED
    assert all(len(command) <= LONGEST_REFUSED for command, _ in told)
    made.receive(b"EHLO x\r\n")
    made.next_event()
    made.send(made.hello_reply())
    assert len(said(made, *lines)) == MOST_REFUSED, "the service was asked something in between"

"""What an IMAP engine tells who looks on."""

from pillarbox.core.engine import Heard, Wait
from pillarbox.imap.events import AppendData, AppendEnd, AppendStart, AuthResponse, Command
from pillarbox.imap.server import Server
from pillarbox.imap.table import State


def heard_of(*pieces: bytes, authenticated: bool = False) -> list[Heard]:
    """Whatever is asked is answered OK."""
    lines: list[Heard] = []
    server = Server()
    server.send_greeting("ready", b"")
    if authenticated:
        server.state = State.AUTHENTICATED
    server.observe(lines.append)
    for piece in pieces:
        server.receive(piece)
        while not isinstance(event := server.next_event(), Wait):
            if isinstance(event, AppendStart):
                server.continue_append()
            elif isinstance(event, Command) and event.name == "AUTHENTICATE":
                server.challenge(b"")
            elif isinstance(event, Command | AppendEnd | AuthResponse):
                server.send_tagged(b"OK", "Done")
            else:
                assert isinstance(event, AppendData)
    return lines


def texts(*pieces: bytes, authenticated: bool = False) -> list[bytes]:
    return [line.text for line in heard_of(*pieces, authenticated=authenticated)]


def test_a_command_is_shown_as_it_came() -> None:
    assert texts(b"a1 select inbox\r\n", authenticated=True) == [b"a1 select inbox"]


def test_the_password_of_login_is_not_shown() -> None:
    for line in (b"a LOGIN alice hush", b'a login "alice" "hu\\"sh"', b'a LOGIN alice "a b"'):
        (shown,) = texts(line + b"\r\n")
        assert b"alice" in shown
        assert shown.endswith(b" <secret>")
        assert b"sh" not in shown
        assert b"a b" not in shown


def test_a_login_that_is_written_wrong_shows_nothing() -> None:
    for line in (b"a LOGIN hush", b"a LOGIN {hush", b'a LOGIN "alice hush', b"a LOGIN (x) hush"):
        (shown,) = texts(line + b"\r\n")
        assert shown == b"a LOGIN <secret>"


def test_a_login_by_literals_shows_nothing_of_them() -> None:
    lines = heard_of(b"a LOGIN {5}\r\n", b"alice {4}\r\n", b"hush\r\n")
    assert [line.text for line in lines] == [b"a LOGIN <secret>", b"<secret>", b"<secret>"]
    assert [line.is_secret for line in lines] == [False, True, True]


def test_responses_of_authenticate_are_not_shown() -> None:
    assert texts(b"a AUTHENTICATE PLAIN AGEAYg==\r\n") == [b"a AUTHENTICATE PLAIN <secret>"]
    assert texts(b"a authenticate plain\r\n", b"AGEAYg==\r\n") == [
        b"a authenticate plain",
        b"<secret>",
    ]
    assert texts(b"a AUTHENTICATE hush\r\n") == [b"a AUTHENTICATE <secret>"]
    assert texts(b"a AUTHENTICATE PLAIN\r\n", b"*\r\n")[1] == b"*"


def test_a_line_that_is_no_command_is_not_shown_nor_its_tag() -> None:
    (line,) = heard_of(b"cGFzc3dvcmQ=\r\n")
    assert line == Heard(b"<12 octets that are no command>", hidden_tag=b"cGFzc3dvcmQ=")
    (line,) = heard_of(b"hush hush\r\n")
    assert line == Heard(b"<9 octets that are no command>", hidden_tag=b"hush")


def test_a_command_with_a_literal_is_shown_line_by_line() -> None:
    assert texts(b"a SELECT {5}\r\n", b"INBOX\r\n", authenticated=True) == [
        b"a SELECT {5}",
        b"INBOX",
    ]
    assert texts(b"a STATUS {2+}\r\nxy (MESSAGES)\r\n", authenticated=True) == [
        b"a STATUS {2+}",
        b"xy (MESSAGES)",
    ]


def test_a_message_is_not_shown() -> None:
    assert texts(b"a APPEND x {5}\r\nhello\r\nb NOOP\r\n", authenticated=True) == [
        b"a APPEND x {5}",
        b"",
        b"b NOOP",
    ]


def test_a_command_behind_one_that_was_given_up_is_a_new_one() -> None:
    """A synchronising literal that is refused does not come (RFC 9051 §4.3)."""
    huge = b"a LOGIN {99999999}\r\n"
    assert texts(huge, huge, b"a LOGIN alice hush\r\n") == [
        b"a LOGIN <secret>",
        b"a LOGIN <secret>",
        b"a LOGIN alice <secret>",
    ]


def test_who_comes_in_the_middle_of_a_command_is_shown_nothing_of_it() -> None:
    lines: list[Heard] = []
    server = Server()
    server.send_greeting("ready", b"")
    server.receive(b"a LOGIN {5}\r\n")
    server.next_event()
    server.observe(lines.append)
    server.receive(b"alice hush\r\n")
    server.next_event()
    assert b"hush" not in b"".join(line.text for line in lines)


def test_nobody_hears_once_that_is_over() -> None:
    lines: list[Heard] = []
    server = Server()
    server.send_greeting("ready", b"")
    server.observe(lines.append)
    server.observe(None)
    server.receive(b"a NOOP\r\n")
    assert isinstance(server.next_event(), Command)
    assert lines == []

"""What of an IMAP session may be shown to who looks on: everything but messages and what belongs to a login.

A line that is no command may be a secret that came at the wrong time, so none of it is shown, nor its tag.
"""

import re
from collections.abc import Container

from pillarbox.core.engine import SECRET, Heard
from pillarbox.core.shown import Answers
from pillarbox.imap.framing import Frame, LineTooLong, LiteralHeader
from pillarbox.sasl.mechanisms import show_auth

_COMMAND = re.compile(rb"([^ ]{1,100}) ((?:UID )?[A-Z0-9.-]+)(?![^ ])(.*)", re.IGNORECASE)
_USER = re.compile(rb' ("(?:[^"\\]|\\.)*"|[^ "\\{(]+) ')

DONE = b"DONE"

UNKNOWN_COMMAND = "Unknown command"
"""Begins the answer to one, and the command follows: that may be a secret, too, so it is not shown."""

_UNKNOWN = re.compile(rb"([^ ]+ BAD %b) .*" % UNKNOWN_COMMAND.encode("ascii"))


def show_response(line: bytes | LineTooLong) -> Heard:
    """A line where AUTHENTICATE expects one."""
    return Heard(b"*" if line == b"*" else SECRET, is_secret=True)


class Commands:
    """Shows one client's commands, line by line: what stands behind a literal is a line of its own, with the literal in
    front where that is no message."""

    __slots__ = ("_begun", "_is_login", "_is_unknown", "_known", "_literals")

    def __init__(self, known: Container[bytes]) -> None:
        """`known` are the names that there are, in upper case."""
        self._known = known
        self._begun = b""  # the text of the present command, up to a literal
        self._literals = 0  # of it, those that were arguments
        self._is_login = self._is_unknown = False

    def show(self, piece: Frame | LiteralHeader | LineTooLong, *, is_idling: bool) -> Heard:
        """What is new in a piece of a command."""
        if isinstance(piece, LineTooLong):
            self._begun = b""
            return Heard(b"<a line that is too long>", hidden_tag=_tag(piece.text))
        if is_idling and piece.text.strip().upper() == DONE:
            return Heard(piece.text)
        begun, given = self._begun, piece.literals[self._literals :]
        is_literal = isinstance(piece, LiteralHeader)
        self._begun = piece.text if is_literal else b""
        self._literals = len(piece.literals) if is_literal else 0
        text = piece.text.removesuffix(b"\n")
        # One that was given up at a literal may be followed by the same again, up to that literal.
        is_same_again = is_literal and len(begun) == len(piece.text)
        if not begun or is_same_again or not piece.text.startswith(begun):
            return self._first(text)
        shown = b"".join(map(_on_a_line, given)) + text[len(begun) :]
        if self._is_unknown:
            return Heard(b"<%d octets that are no command>" % len(shown))
        return Heard(SECRET, is_secret=True) if self._is_login else Heard(shown)

    def _first(self, line: bytes) -> Heard:
        command = _COMMAND.fullmatch(line)
        name = command[2].upper() if command else b""
        self._is_unknown = name not in self._known
        self._is_login = name in (b"LOGIN", b"AUTHENTICATE")
        if command is None or self._is_unknown:
            return Heard(b"<%d octets that are no command>" % len(line), hidden_tag=_tag(line))
        if name == b"LOGIN":
            user = _USER.match(command[3])
            shown = user[1] + b" " + SECRET if user else SECRET
        elif name == b"AUTHENTICATE":
            shown = show_auth(command[3])
        else:
            return Heard(line)
        return Heard(b" ".join((command[1], command[2], shown)))


def _tag(line: bytes) -> bytes:
    return line.split(b" ", 1)[0]


def _on_a_line(literal: bytes) -> bytes:
    return literal.replace(b"\r\n", b" ").replace(b"\n", b" ")


def _mask(line: bytes) -> bytes:
    """Nothing of a challenge (RFC 3501 §6.2.2), nor of what was taken for a command."""
    if line.startswith(b"+ ") and line not in (b"+ ", b"+ OK", b"+ idling"):
        return b"+ <challenge>"
    unknown = _UNKNOWN.fullmatch(line)
    return unknown[1] if unknown else line


def answers(*, is_lost: bool) -> Answers:
    """What shows the server's side; see `Answers`."""
    return Answers(_mask, with_literals=True, is_lost=is_lost)

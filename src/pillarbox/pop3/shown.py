"""What of a POP3 session may be shown to who looks on: everything but messages and what belongs to a login.

A line that is no command may be a secret that came at the wrong time, so none of it is shown.
"""

from collections.abc import Container

from pillarbox.core.engine import SECRET, Heard
from pillarbox.core.shown import Answers
from pillarbox.pop3.lines import BadLine
from pillarbox.sasl.mechanisms import show_auth


def show_line(line: bytes | BadLine, known: Container[bytes], *, is_response: bool) -> Heard:
    """`known` are the keywords that there are; `is_response`: the line stands where an AUTH exchange expects one."""
    if is_response:
        return Heard(line if line == b"*" else SECRET, is_secret=True)
    if not isinstance(line, bytes):
        return Heard(b"<a line that is too long>")
    keyword, _, argument = line.partition(b" ")
    name = keyword.upper()
    if name not in known:
        return Heard(b"<%d octets that are no command>" % len(line))
    if name == b"PASS":
        return Heard(keyword + b" " + SECRET)
    return Heard(keyword + b" " + show_auth(argument) if name == b"AUTH" and argument else line)


def _mask(line: bytes) -> bytes:
    """Nothing of a challenge (RFC 5034 §4)."""
    return b"+ <challenge>" if line.startswith(b"+ ") and len(line) > 2 else line


def answers(*, is_lost: bool) -> Answers:
    """What shows the server's side; see `Answers`."""
    return Answers(_mask, bodies_behind=(b"RETR", b"TOP"), is_lost=is_lost)

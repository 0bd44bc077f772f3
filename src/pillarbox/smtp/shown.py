"""What of an SMTP session may be shown to who looks on: everything but mail data and what belongs to a login.

A line that is no command may be a secret that came at the wrong time, so none of it is shown.
"""

from pillarbox.core.engine import SECRET, Heard
from pillarbox.core.shown import Answers
from pillarbox.sasl.mechanisms import show_auth
from pillarbox.smtp.lines import BadLine
from pillarbox.smtp.server_commands import COMMANDS, LMTP_COMMANDS


def show_line(line: bytes | BadLine, *, is_response: bool) -> Heard:
    """`is_response`: it stands where an AUTH exchange expects one."""
    if is_response:
        return Heard(line if line == b"*" else SECRET, is_secret=True)
    if not isinstance(line, bytes):
        return Heard(b"<a line that is too long>")
    verb, _, argument = line.partition(b" ")
    name = verb.upper()
    if name not in COMMANDS and name not in LMTP_COMMANDS:
        return Heard(b"<%d octets that are no command>" % len(line))
    return Heard(verb + b" " + show_auth(argument) if name == b"AUTH" and argument else line)


def _mask(line: bytes) -> bytes:
    """Nothing of a challenge (RFC 4954 §4)."""
    return b"334 <challenge>" if line.startswith(b"334 ") and len(line) > 4 else line


def answers(*, is_lost: bool) -> Answers:
    """What shows the server's side; see `Answers`."""
    return Answers(_mask, is_lost=is_lost)

"""Replies and the table of those that the engine and services give (RFC 5321 §4.2, RFC 2034, RFC 3463).

Texts for strangers are public: plain English, nothing internal. A service that needs another text makes
its own `Reply` with the code and the enhanced code of the nearest row.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_MAX_TEXT = 480
"""Characters of text in one line: RFC 5321 §4.5.3.1.5 limits the line to 512 octets."""

_NOT_TEXT = re.compile(r"[^\t -~]")


@dataclass(slots=True, frozen=True)
class Reply:
    """`enhanced` is the enhanced status code; "" only for greeting, EHLO, HELO and 3yz (RFC 2034 §4).
    Each line of `text` ("\\n" between them) is a line of the reply."""

    code: int
    enhanced: str
    text: str

    @property
    def positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400


@lru_cache(maxsize=256)
def format_reply(reply: Reply) -> bytes:
    """Wire form. What may not stand in a reply becomes "?", and long lines are cut into several.

    Example: `Reply(250, "2.1.0", "Ok")` -> `b"250 2.1.0 Ok\\r\\n"`.
    """
    text = reply.text
    prefix = f"{reply.enhanced} " if reply.enhanced else ""
    if len(text) <= _MAX_TEXT and text.isascii() and text.isprintable():
        return f"{reply.code} {prefix}{text}\r\n".encode("ascii")
    lines = [
        _NOT_TEXT.sub("?", line[start : start + _MAX_TEXT])
        for line in text.split("\n")
        for start in range(0, len(line) or 1, _MAX_TEXT)
    ]
    # RFC 5321 §4.2.1: the same code on each line; RFC 2034 §4: so the enhanced code
    wire = "".join(f"{reply.code}-{prefix}{line}\r\n" for line in lines[:-1])
    return f"{wire}{reply.code} {prefix}{lines[-1]}\r\n".encode("ascii")


# What the engine answers with, and services for the commands that they accept
OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
START_MAIL_INPUT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
BYE = Reply(221, "2.0.0", "Bye")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
CANNOT_VERIFY = Reply(
    252, "2.5.0", "Cannot VRFY user, but will accept message and attempt delivery"
)

# Syntax and order
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognized")
BARE_CR_OR_LF_IN_COMMAND = Reply(500, "5.5.2", "Lines end with CRLF, never with CR or LF alone")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
HELLO_FIRST = Reply(503, "5.5.1", "Send EHLO or HELO first")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
RECIPIENT_FIRST = Reply(503, "5.5.1", "Send RCPT first")
BDAT_ONLY = Reply(503, "5.5.1", "This message must come by BDAT")
IN_TRANSACTION = Reply(503, "5.5.1", "Not permitted during a mail transaction")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
NON_ASCII_SENDER = Reply(550, "5.6.7", "A non-ASCII address needs SMTPUTF8")  # RFC 6531 §3.5
NON_ASCII_RECIPIENT = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized")

# Limits
TOO_BIG = Reply(552, "5.3.4", "Message size exceeds fixed maximum message size")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing transmission channel")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands, closing transmission channel")
NOT_HTTP = Reply(421, "4.7.0", "This is not a web server, closing transmission channel")
TIMED_OUT = Reply(421, "4.4.2", "Timeout, closing transmission channel")
SHUTTING_DOWN = Reply(421, "4.3.2", "Service not available, closing transmission channel")

# TLS and authentication (RFC 3207, RFC 4954 §4, §6)
TLS_ACTIVE = Reply(503, "5.5.1", "TLS is already active")
TLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
TLS_FOR_MECHANISM = Reply(
    538, "5.7.11", "Encryption required for requested authentication mechanism"
)
PIPELINED_STARTTLS = Reply(554, "5.5.1", "STARTTLS must be the last command in a group")
AUTHENTICATION_REQUIRED = Reply(530, "5.7.0", "Authentication required")
ALREADY_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode base64")
AUTHENTICATION_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTHENTICATION_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTHENTICATION_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")

# What services refuse with
MAILBOX_UNKNOWN = Reply(550, "5.1.1", "No such mailbox here")
MAILBOX_DISABLED = Reply(550, "5.2.1", "Mailbox disabled")
MAILBOX_FULL = Reply(552, "5.2.2", "Mailbox full")
SENDER_NOT_YOURS = Reply(550, "5.7.1", "Not your sender address")
RELAY_DENIED = Reply(550, "5.7.1", "Relaying denied")
BARE_CR_OR_LF_IN_DATA = Reply(550, "5.6.11", "Bare CR or LF in message")
NOT_CONVERTED = Reply(554, "5.6.3", "Binary parts of the message are where they cannot be encoded")
XCLIENT_DENIED = Reply(550, "5.7.0", "You may not speak for other clients")
SPOKE_EARLY = Reply(554, "5.5.1", "You spoke before the greeting, closing transmission channel")
MAIL_LOOP = Reply(554, "5.4.6", "Too many hops")
STORAGE_FULL = Reply(452, "4.3.1", "Insufficient system storage")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections")


def greeting(hostname: str, *, lmtp: bool = False) -> Reply:
    """The first words on a connection (RFC 5321 §4.3.1)."""
    return Reply(220, "", f"{hostname} {'LMTP' if lmtp else 'ESMTP'} Pillarbox")


def queued(queue_id: str) -> Reply:
    """The message is ours now (RFC 5321 §4.2.5)."""
    return Reply(250, "2.0.0", f"Ok: queued as {queue_id}")


def bad_syntax(usage: str) -> Reply:
    """`usage` shows the command as it should be."""
    return Reply(501, "5.5.4", f"Syntax: {usage}")

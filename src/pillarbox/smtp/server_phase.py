"""Where a server engine is in its conversation."""

from enum import Enum


class Phase(Enum):
    """What the next input is, or what waits for an answer."""

    COMMAND = "command"
    AUTH_RESPONSE = "response in an AUTH exchange"
    DATA = "mail data"
    CHUNK = "octets of a chunk"
    CHUNK_END = "a chunk is complete"
    DATA_END = "the service has to be told that mail data is over"
    TLS = "handshake"
    # Each of these waits for `send`
    GREETING = "greeting"
    HELLO = "EHLO or HELO"
    XCLIENT = "XCLIENT"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA_START = "DATA"
    CHUNK_START = "the first BDAT"
    BODY_END = "end of mail data"
    AUTH = "AUTH or a response in its exchange"


READS = frozenset(
    {
        Phase.COMMAND,
        Phase.AUTH_RESPONSE,
        Phase.DATA,
        Phase.CHUNK,
        Phase.CHUNK_END,
        Phase.DATA_END,
        Phase.TLS,
    }
)
"""Phases that end by input, or by themselves."""
STARTS = (Phase.DATA_START, Phase.CHUNK_START)
"""Where 354 is the positive answer."""

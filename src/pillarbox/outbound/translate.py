"""The reply translator: from what a server said to its cause, the evidence, and what to do about it.

The first row of `reply_table` that fits counts, then the enhanced code (RFC 3463 and the registry of RFC 5248), then
the code. A reply that fits nothing is unknown: callers count those, so that the table grows.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from pillarbox.outbound.reply_table import ADVICE, BY_CODE, BY_REPLY, ROWS, Cause, Who
from pillarbox.smtp.reply import Reply

MAX_EXAMINED = 2000
"""Characters of a reply that are looked at: it bounds what a hostile text can cost."""

MAX_GIST = 200

_ADDRESS = re.compile(r"[^\s<>@]{1,64}@[\w.-]{1,255}")
_NUMBER = re.compile(r"(?:(?<![a-fA-F])[a-fA-F]++)?[0-9][0-9a-zA-Z.:-]*")
"""With the letters before its first digit, if it may be hexadecimal."""

_ROWS = tuple((re.compile(pattern), cause, advice) for pattern, cause, advice in ROWS)


@dataclass(slots=True, frozen=True)
class Translation:
    """`evidence` is the part of the reply that tells, at most a line, as it was said."""

    cause: Cause
    evidence: str
    who: Who
    advice: str
    """What to do, one or two sentences for people."""

    def __str__(self) -> str:
        """Two lines: what happened, what to do."""
        return f"{self.cause.value}\n{self.advice}"


@lru_cache(maxsize=512)  # a host says the same of all mail that waits for it
def translate(reply: Reply) -> Translation | None:
    """What a 4yz or 5yz reply means, None if that is unknown.

    Example: `Reply(452, "4.2.2", "Over quota")` -> MAILBOX_FULL, evidence "quota".
    """
    said = reply.text[:MAX_EXAMINED].replace("\n", " ")
    whole = f"{reply.code} {reply.enhanced} {said}" if reply.enhanced else f"{reply.code} {said}"
    lower = whole.lower()
    for pattern, cause, advice in _ROWS:
        if match := pattern.search(lower):
            # Lowering may change the length of exotic text; the evidence is only shown.
            return _translation(cause, whole[match.start() : match.end()][:200], advice)
    if known := BY_CODE.get(reply.enhanced.partition(".")[2]):
        return _translation(known, reply.enhanced, "")
    if not reply.enhanced and (known := BY_REPLY.get(reply.code)):
        return _translation(known, str(reply.code), "")
    return None


def gist(reply: Reply) -> str:
    """A reply without what differs from message to message, for counting unknown ones.

    Example: "450 4.9.9 Ticket 4711 for <bob@example.org>" -> "450 4.9.9 Ticket N for <ADDRESS>".
    """
    said = _ADDRESS.sub("ADDRESS", reply.text[:MAX_EXAMINED].replace("\n", " "))
    said = _NUMBER.sub("N", said)
    head = f"{reply.code} {reply.enhanced}".strip()
    return f"{head} {said}"[:MAX_GIST]


def _translation(cause: Cause, evidence: str, advice: str) -> Translation:
    who, usual = ADVICE[cause]
    return Translation(cause, evidence, who, advice or usual)

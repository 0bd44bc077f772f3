"""Whether a stranger's sender can be answered at all (RFC 7505 §4.2).

A domain that says it takes no mail (a null MX) sends none either, and nobody could be told of a failure. Answers are
kept as long as the DNS says. What cannot be known in time is remembered, too: mail is not refused for that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pillarbox.dns.query import Answer, Asking, Mx, Query, RecordType, Status

LONGEST_WAIT_S = 3.0
UNKNOWN_FOR_S = 60.0
"""After the DNS did not answer."""
LONGEST_KEPT_S = 3600.0
MOST_KEPT = 10_000

Run = Callable[[Asking[Answer]], Awaitable[Answer]]
"""`net.resolver.Resolver.run`"""


@dataclass(slots=True)
class SenderDomains:
    """What is known of domains, in A-labels. One for each server."""

    run: Run
    _known: dict[str, tuple[float, bool]] = field(default_factory=dict, init=False)
    """By domain: until when (of the monotonic clock), and whether it takes no mail."""

    async def takes_no_mail(self, domain: str) -> bool:
        """Suspends only to ask the DNS about a domain that is not known."""
        now = time.monotonic()
        known = self._known.get(domain)
        if known is not None and known[0] > now:
            return known[1]
        # Not `asyncio.timeout`: a handler's first step runs in no task (`net.connection`).
        asking = asyncio.ensure_future(self.run(_ask(domain)))
        try:
            await asyncio.wait([asking], timeout=LONGEST_WAIT_S)
            answer = asking.result() if asking.done() else Answer(Status.FAILED, domain)
        finally:
            asking.cancel()
        kept_s = UNKNOWN_FOR_S if answer.status is Status.FAILED else answer.ttl_s
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        found = is_null_mx(answer)
        self._known[domain] = (now + min(kept_s, LONGEST_KEPT_S), found)
        return found


def _ask(domain: str) -> Asking[Answer]:
    (answer,) = yield [Query(domain, RecordType.MX)]
    return answer


def is_null_mx(answer: Answer) -> bool:
    """One MX, of the root (RFC 7505 §3)."""
    return (
        len(answer.records) == 1
        and isinstance(answer.records[0], Mx)
        and not answer.records[0].host
    )

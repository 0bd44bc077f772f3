"""Small questions to web services: JSON answers, no redirects, bounded in size and time."""

import json
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any, cast
from urllib.parse import urlsplit

from pillarbox.auth.failure import NoAnswer, words_of
from pillarbox.auth.limited import Limited, connect, trusting
from pillarbox.core.errors import Unavailable

MOST_OCTETS = 256 * 1024

MOST_RECEIVED = 4 * MOST_OCTETS
"""Octets of an answer with all that frames it: http.client knows framings that lead it past any limit of its caller, as
a chunk of -1 octets does."""


class WebRefusal(NoAnswer):
    """The service answered with an error status."""

    def __init__(self, shown: str, status: int) -> None:
        super().__init__(f"{shown} answers with status {status}")
        self.status = status


def _exchange(
    url: str, body: bytes | None, headers: Mapping[str, str], until: float, ca_file: str
) -> tuple[int, bytes]:
    """Status and octets of the answer, one more than MOST_OCTETS at most."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidURL
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    with Limited(connect(parts.hostname, port, until), until, MOST_RECEIVED) as limited:
        if is_tls:
            limited.start_tls(trusting(ca_file), parts.hostname)
        connection = HTTPConnection(parts.netloc.rpartition("@")[2])
        connection.sock = cast(Any, limited)
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        connection.request("GET" if body is None else "POST", target, body, dict(headers))
        answer = connection.getresponse()
        is_good = 200 <= answer.status < 300
        return answer.status, answer.read(MOST_OCTETS + 1) if is_good else b""


def shown_url(url: str) -> str:
    """For people: without what stands before an @ or behind a ?, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def ask(
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    *,
    ca_file: str = "",
) -> dict[str, Any]:
    """GET, or POST with a body; the JSON object of the answer. Blocks for `timeout_s` in all, however the answer comes:
    for a thread. `ca_file`: who signs the service's certificate, in place of those whom the machine trusts.

    Raises WebRefusal on 4xx, Unavailable, from a NoAnswer, if there is no proper answer.
    """
    shown = shown_url(url)
    all_headers = {"Accept": "application/json", "Connection": "close", **headers}
    until = time.monotonic() + timeout_s
    try:
        status, octets = _exchange(url, body, all_headers, until, ca_file)
    except (OSError, HTTPException, ValueError, NoAnswer) as error:
        failure = NoAnswer(f"{shown}: {words_of(error)}")
        raise Unavailable("the login service does not answer") from failure
    if not 200 <= status < 300:
        refusal = WebRefusal(shown, status)
        if 400 <= status < 500 and status not in (408, 425, 429):
            raise refusal
        raise Unavailable("the login service does not answer as it should") from refusal
    if len(octets) > MOST_OCTETS:
        failure = NoAnswer(f"{shown} sends more than {MOST_OCTETS} octets")
        raise Unavailable("the login service says too much") from failure
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        failure = NoAnswer(f"{shown} does not send JSON")
        raise Unavailable("the login service does not answer as it should") from failure
    if not isinstance(found, dict):
        failure = NoAnswer(f"{shown} does not send a JSON object")
        raise Unavailable("the login service does not answer as it should") from failure
    return cast(dict[str, Any], found)

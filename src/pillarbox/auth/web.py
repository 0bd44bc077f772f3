"""Small questions to web services: JSON answers, no redirects, bounded in size and time."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, InvalidURL
from typing import Any, cast
from urllib.parse import urlsplit

from pillarbox.core.errors import Unavailable

MOST_OCTETS = 256 * 1024

MOST_OF_AN_ERROR = 300
"""Characters of an error of somebody else that the log gets."""


class WebFailure(Exception):
    """Which service failed and how, in words for the log."""


class WebRefusal(WebFailure):
    """The service answered with an error status."""

    def __init__(self, shown: str, status: int) -> None:
        super().__init__(f"{shown} answers with status {status}")
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """None: a redirect is an error, so secrets go nowhere else."""


def _shown(url: str) -> str:
    """Without what stands before an @ or behind a ?, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def words_of(error: BaseException) -> str:
    """An error of somebody else, for the log. What is wrong with a value may be told with the value, a token that
    cannot be a header field, say: then only what kind of error it is."""
    if isinstance(error, ValueError | InvalidURL):
        return type(error).__name__
    return ascii(str(error))[1:-1][:MOST_OF_AN_ERROR]


def with_cause(error: Unavailable) -> str:
    """What failed and why, for the log."""
    cause = error.__cause__
    return error.text if cause is None else f"{error.text} ({words_of(cause)})"


def ask(
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    *,
    ca_file: str = "",
) -> dict[str, Any]:
    """GET, or POST with a body; the JSON object of the answer. Blocks: for a thread. `ca_file`: who signs the service's
    certificate, in place of those whom the machine trusts.

    Raises WebRefusal on 4xx, Unavailable, from a WebFailure, if there is no proper answer.
    """
    shown = _shown(url)
    request = urllib.request.Request(url, data=body, headers={"Accept": "application/json"})
    for name, value in headers.items():
        request.add_header(name, value)
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirects(),
        )
        with opener.open(request, timeout=timeout_s) as answer:
            octets = answer.read(MOST_OCTETS + 1)
    except urllib.error.HTTPError as error:
        refusal = WebRefusal(shown, error.code)
        error.close()
        if 400 <= refusal.status < 500 and refusal.status not in (408, 425, 429):
            raise refusal from None
        raise Unavailable("the login service does not answer as it should") from refusal
    except (OSError, HTTPException, ValueError) as error:
        failure = WebFailure(f"{shown}: {words_of(error)}")
        raise Unavailable("the login service does not answer") from failure
    if len(octets) > MOST_OCTETS:
        failure = WebFailure(f"{shown} sends more than {MOST_OCTETS} octets")
        raise Unavailable("the login service says too much") from failure
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        failure = WebFailure(f"{shown} does not send JSON")
        raise Unavailable("the login service does not answer as it should") from failure
    if not isinstance(found, dict):
        failure = WebFailure(f"{shown} does not send a JSON object")
        raise Unavailable("the login service does not answer as it should") from failure
    return cast(dict[str, Any], found)

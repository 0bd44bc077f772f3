"""Small questions to web services: JSON answers, no redirects, bounded in size and time."""

import json
import logging
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

log = logging.getLogger("pillarbox.auth")


class WebRefusal(Exception):
    """The service answered with an error status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
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


def ask(
    url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
) -> dict[str, Any]:
    """GET, or POST with a body; the JSON object of the answer. Blocks: for a thread.

    Raises WebRefusal on 4xx, Unavailable if there is no proper answer.
    """
    request = urllib.request.Request(url, data=body, headers={"Accept": "application/json"})
    for name, value in headers.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        _NoRedirects(),
    )
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            octets = answer.read(MOST_OCTETS + 1)
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
        if status not in (401, 403, 404):  # these may mean a wrong password
            log.error("the login service at %s answers with status %d", _shown(url), status)
        if 400 <= status < 500 and status not in (408, 425, 429):
            raise WebRefusal(status) from None
        raise Unavailable("the login service does not answer as it should") from None
    except (OSError, HTTPException, ValueError) as error:
        log.error("the login service at %s does not answer: %s", _shown(url), words_of(error))
        raise Unavailable("the login service does not answer") from error
    if len(octets) > MOST_OCTETS:
        raise Unavailable("the login service says too much")
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise Unavailable("the login service does not speak JSON") from error
    if not isinstance(found, dict):
        raise Unavailable("the login service does not answer with an object")
    return cast(dict[str, Any], found)

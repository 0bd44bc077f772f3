"""Passwords that a web service verifies: it gets a JSON object by POST, and answers with one.

    {"user": "alice@example.org", "password": "...", "client": "192.0.2.1", "protocol": "imap"}
    200 {"address": "alice@example.org"}     it is right, and that is the account
    200 {"address": null}                    it is wrong

Anything else lets nobody in and is no failure of the user: another status, which a proxy may say, or the service of a
caller whose token is wrong; an object without an address, or with one that `auth.address` takes for none.

Wrong ones are remembered for a while, as keyed hashes of the whole question, so a client that repeats itself costs the
service nothing.
"""

import hashlib
import hmac
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from pillarbox.auth.address import is_address
from pillarbox.auth.failure import NoAnswer
from pillarbox.auth.source import Claimant
from pillarbox.auth.web import WebRefusal, ask, shown_url
from pillarbox.config.regular_file import read_secret
from pillarbox.config.schema import DirectorySettings
from pillarbox.core.errors import Unavailable

TIMEOUT_S = 5.0
"""From the moment when the login came."""
REMEMBERED_S = 30.0
MOST_REMEMBERED = 10_000

_LOOK_AT = {401: "token_file", 403: "token_file", 404: "url", 405: "url"}
"""Which setting of [directory] may be wrong, by status."""


class HttpSource:
    """Used by several threads."""

    def __init__(
        self, settings: DirectorySettings, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._key = os.urandom(32)
        self._wrong: OrderedDict[bytes, float] = OrderedDict()
        self._mutex = threading.Lock()

    def check(self, user: Claimant) -> str | None:
        question = {
            "user": user.username,
            "password": user.password.reveal(),
            "client": user.client,
            "protocol": user.protocol,
        }
        octets = json.dumps(question).encode("ascii")
        # Of all that is asked: the service may decide by the protocol and the client, too.
        mark = hmac.digest(self._key, octets, hashlib.sha256)
        with self._mutex:
            if self._wrong.get(mark, 0.0) > self._monotonic():
                return None
        timeout_s = user.came + TIMEOUT_S - time.monotonic()
        address = self._ask(octets, timeout_s)
        if address is None:
            with self._mutex:
                self._wrong[mark] = self._monotonic() + REMEMBERED_S
                if len(self._wrong) > MOST_REMEMBERED:
                    self._wrong.popitem(last=False)
        return address

    def _ask(self, question: bytes, timeout_s: float) -> str | None:
        settings = self._settings
        headers = {"Content-Type": "application/json"}
        if settings.token_file:
            try:
                token = read_secret(Path(settings.token_file)).encode("ascii").decode().strip()
            except (OSError, ValueError) as error:
                raise Unavailable("the token for the login service cannot be read") from error
            headers["Authorization"] = f"Bearer {token}"
        try:
            found = ask(settings.url, question, headers, timeout_s, ca_file=settings.ca_file)
        except WebRefusal as error:
            setting = _LOOK_AT.get(error.status)
            hint = f": see directory.{setting}" if setting else ""
            failure = NoAnswer(f"{error}{hint}")
            raise Unavailable("the login service refuses to answer") from failure
        address = found.get("address", "")
        if address is None:
            return None
        if not is_address(address):
            failure = NoAnswer(f"{shown_url(settings.url)} sends no address, and no null either")
            raise Unavailable("the login service does not answer as it should") from failure
        return address

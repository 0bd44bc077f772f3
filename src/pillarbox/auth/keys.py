"""The keys that an issuer signs tokens with: a JWKS file (RFC 7517 §5), or what a URL gives.

Symmetric and private keys are none, nor RSA keys that are too short. Keys are fetched in a thread of their own, once
at a time, and who has a key that is known waits for none of that. A fetch that failed, or brought no key that can be
used, is not repeated for a while: strangers can name as many unknown keys as they like.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt

from pillarbox.auth.failure import NoAnswer, with_cause
from pillarbox.auth.web import WebRefusal, ask, shown_url
from pillarbox.config.regular_file import read_regular
from pillarbox.core.errors import Unavailable

log = logging.getLogger("pillarbox.auth")

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By type of key."""

SHORTEST_RSA_BITS = 2048
"""RFC 7518 §3.3, §3.5"""

KEYS_LIFE_S = 3600.0
LOOK_AGAIN_S = 60.0
"""How often keys are fetched again for a token that names an unknown one, whatever came of it."""

FAILED_S = 10.0
"""The same where none is known at all: nobody gets in until there are some."""

TIMEOUT_S = 5.0

NOT_FETCHED = "the keys for tokens cannot be fetched"


class IssuerKeys:
    """Those of one issuer, for several threads."""

    def __init__(self, place: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`place`: a path or a URL."""
        self._place = place
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._fetched = float("-inf")
        self._failure: Unavailable | None = None  # of the last fetch, if that failed
        self._failed = float("-inf")
        self._under_way: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    def known(self, kid: object) -> list[jwt.PyJWK] | None:
        """The keys that a token may be signed with, as far as they are known; `kid` None: it names none. None: there
        may be new ones. Keys that are old count on, while they are fetched again. Waits for nothing."""
        with self._mutex:
            found = self._fitting(kid)
            age_s = self._monotonic() - self._fetched
            if found and age_s > KEYS_LIFE_S and not self._has_failed_lately():
                self._begin()
            return found if found or age_s <= LOOK_AGAIN_S else None

    def find(self, kid: object, timeout_s: float) -> list[jwt.PyJWK]:
        """Likewise, once they are fetched. Blocks. Raises Unavailable, at the latest after `timeout_s`."""
        with self._mutex:
            if self._monotonic() - self._fetched <= LOOK_AGAIN_S:  # by another thread, just now
                return self._fitting(kid)
            if self._has_failed_lately():
                assert self._failure is not None
                raise Unavailable(self._failure.text) from self._failure.__cause__
            fetch = self._begin()
        try:
            fetch.result(max(timeout_s, 0.0))
        except TimeoutError:
            place = shown_url(self._place) if "://" in self._place else self._place
            failure = NoAnswer(f"{place}: timed out")
            raise Unavailable(NOT_FETCHED) from failure
        with self._mutex:
            return self._fitting(kid)

    def fetch(self) -> list[jwt.PyJWK]:
        """Those that the place has now, at least one, fetched at once. Blocks. Raises Unavailable."""
        found = _parse_keys(self._read())
        if not found:  # an empty set is more likely a fault than the wish that nobody gets in
            raise Unavailable("there are no keys for tokens that can be used")
        return found

    def _read(self) -> Any:
        """What stands there. Raises Unavailable."""
        if "://" in self._place:
            try:
                return ask(self._place, None, {}, TIMEOUT_S)
            except WebRefusal as error:
                raise Unavailable(NOT_FETCHED) from error
        try:
            return json.loads(read_regular(Path(self._place)).decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise Unavailable("the keys for tokens cannot be read") from error

    def _fitting(self, kid: object) -> list[jwt.PyJWK]:
        return [key for key in self._keys if kid is None or key.key_id == kid]

    def _has_failed_lately(self) -> bool:
        pause_s = LOOK_AGAIN_S if self._keys else FAILED_S
        return self._failure is not None and self._monotonic() - self._failed <= pause_s

    def _begin(self) -> Future[None]:
        """The fetch that is under way, or a new one."""
        if self._under_way is None:
            self._under_way = self._thread.submit(self._renew)
        return self._under_way

    def _renew(self) -> None:
        """Raises Unavailable."""
        try:
            keys = self.fetch()
        except Exception as error:  # of any kind, the next token does not lead to the next fetch
            failure = error if isinstance(error, Unavailable) else Unavailable(NOT_FETCHED)
            if failure is not error:
                log.exception("a bug in the fetch of keys for tokens")
                failure.__cause__ = error
            with self._mutex:
                self._failure, self._failed = failure, self._monotonic()
                is_known = bool(self._keys)
            if is_known:
                log.warning(
                    "the keys for tokens that were known are used on: %s", with_cause(failure)
                )
            raise failure from failure.__cause__
        else:
            with self._mutex:
                self._keys, self._fetched, self._failure = keys, self._monotonic(), None
        finally:
            with self._mutex:
                self._under_way = None


def algorithms_of(key: jwt.PyJWK) -> tuple[str, ...]:
    """What a key may be used with: the algorithm that it names, else those of its type."""
    of_type = ALGORITHMS.get(str(key.key_type), ())
    named = key._jwk_data.get("alg")
    if named is None:
        return of_type
    return (named,) if named in of_type else ()


def _parse_keys(found: Any) -> list[jwt.PyJWK]:
    """Those of a JWK Set that can be used; symmetric and private ones never."""
    listed = found.get("keys") if isinstance(found, dict) else None
    keys = [_parse_key(each) for each in listed] if isinstance(listed, list) else []
    return [key for key in keys if key is not None]


def _parse_key(found: Any) -> jwt.PyJWK | None:
    """RFC 7517 §5: None for a key that is not understood, lacks something, or has values that cannot be."""
    if not isinstance(found, dict) or found.get("use", "sig") != "sig":
        return None
    uses = found.get("key_ops", ["verify"])  # RFC 7517 §4.3
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    # What is private in the set is not: others may sign with it.
    if found.get("kty") not in tuple(ALGORITHMS) or "d" in found:
        return None
    try:
        key = jwt.PyJWK(found)
    except Exception:  # values that make no sense fail in the library in any way
        return None
    if found["kty"] == "RSA" and key.key.key_size < SHORTEST_RSA_BITS:
        return None
    return key

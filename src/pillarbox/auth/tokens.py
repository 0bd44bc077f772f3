"""Access tokens: whose account one is for. Either it is signed (a JWT, with keys from a JWKS file or URL), or its
issuer is asked (RFC 7662 §2).

Only asymmetric algorithms count, and only that of the key's own type: "none", and an HMAC whose key would be a public
key, are refused. Issuer, audience, and an expiry are demanded. All methods of verifiers block: call them in a thread.
"""

import base64
import hashlib
import json
import logging
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import jwt

from pillarbox.auth.failure import with_cause
from pillarbox.auth.peer import BadToken
from pillarbox.auth.web import WebRefusal, ask
from pillarbox.config.schema import Oauth
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret

log = logging.getLogger("pillarbox.auth")

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By type of key."""

KEYS_LIFE_S = 3600.0
LOOK_AGAIN_S = 60.0
"""How often keys are fetched again for a token that names an unknown one."""

MOST_TRIED = 10
"""Keys of the issuer, for a token that names none."""

TIMEOUT_S = 5.0
REMEMBERED_S = 60.0
"""How long the issuer is not asked again of a token that was good."""
MOST_REMEMBERED = 10_000


class TokenVerifier(Protocol):
    """Says what a token says."""

    def claims(self, token: Secret) -> dict[str, Any] | BadToken:
        """Its claims if it is good. Blocks. Raises Unavailable."""

    def probe(self) -> str:
        """What there is to verify tokens with, looked at now, in words. Blocks. Raises Unavailable."""


def make_verifier(settings: Oauth) -> TokenVerifier | None:
    """None: no tokens are taken."""
    if settings.introspection_url:
        return Introspection(settings)
    return SignedTokens(settings) if settings.jwks else None


def user_of(claims: dict[str, Any], settings: Oauth) -> str | BadToken:
    """The user that a token is for."""
    scope = claims.get("scope", claims.get("scp", ""))
    scopes = scope.split() if isinstance(scope, str) else scope
    if settings.scope and not (isinstance(scopes, list) and settings.scope in scopes):
        return BadToken("the token lacks the scope")
    # An address that its owner never proved to have is nobody's. Issuers that only have proven ones need not say so;
    # Amazon Cognito says it in a string.
    verified = claims.get("email_verified", True)
    if settings.user_claim == "email" and verified is not True and verified != "true":
        return BadToken("the token's address is not verified")
    user = claims.get(settings.user_claim)
    return user if isinstance(user, str) and user else BadToken("the token says no address")


_WHY = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token does not count yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is another issuer's"),
    (jwt.MissingRequiredClaimError, "the token lacks its end, issuer or audience"),
    (jwt.InvalidSignatureError, "the token has a bad signature"),
    (jwt.DecodeError, "the token is no JWT"),
)
"""What is wrong with a token; who is derived from another one comes first. Few words, for each is a kind of failure in
the history of an account, and none of the token's own."""


def _bad(error: jwt.InvalidTokenError) -> BadToken:
    found = (words for kind, words in _WHY if isinstance(error, kind))
    return BadToken(next(found, "bad token"))


class SignedTokens:
    """JWTs."""

    def __init__(self, settings: Oauth, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._skew_s = parse_duration(settings.clock_skew)
        self._monotonic = monotonic
        self._keys: list[jwt.PyJWK] = []
        self._fetched = float("-inf")
        self._fetching = threading.Lock()

    def claims(self, token: Secret) -> dict[str, Any] | BadToken:
        text = token.reveal()
        try:
            header = jwt.get_unverified_header(text)
            keys = self._find(header.get("kid"))
            fitting = [key for key in keys if header.get("alg") in _algorithms(key)]
            if fitting:
                return self._verified_by_one(text, fitting[:MOST_TRIED])
        except jwt.InvalidTokenError as error:
            return _bad(error)
        if not keys:
            return BadToken("the token is signed with a key that the issuer has not")
        return BadToken("the token is signed by an algorithm that is not its key's")

    def probe(self) -> str:
        keys = _parse_keys(self._fetch())
        if not keys:
            raise Unavailable("there are no keys for tokens that can be used")
        return f"there {'is 1 key' if len(keys) == 1 else f'are {len(keys)} keys'} for tokens"

    def _verified_by_one(self, text: str, keys: list[jwt.PyJWK]) -> dict[str, Any]:
        """A token need not name its key. What is wrong with a token otherwise is told when its signature is good.
        Raises jwt.InvalidTokenError."""
        for key in keys[:-1]:
            with suppress(jwt.InvalidSignatureError):
                return self._verified(text, key)
        return self._verified(text, keys[-1])

    def _verified(self, text: str, key: jwt.PyJWK) -> dict[str, Any]:
        """Raises jwt.InvalidTokenError."""
        settings = self._settings
        return jwt.decode(
            text,
            key=key.key,
            algorithms=list(_algorithms(key)),
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=self._skew_s,
            options={"require": ["exp", "iss", "aud"]},
        )

    def _find(self, kid: object) -> list[jwt.PyJWK]:
        """The keys that a token may be signed with. Fetched in one thread at a time."""
        with self._fetching:
            age_s = self._monotonic() - self._fetched
            found = self._fitting(kid)
            if age_s > KEYS_LIFE_S or (not found and age_s > LOOK_AGAIN_S):
                try:
                    self._keys = _parse_keys(self._fetch())
                except Unavailable as error:
                    if not found:
                        raise
                    log.warning(
                        "the keys for tokens that were known are used on: %s", with_cause(error)
                    )
                self._fetched = self._monotonic()
                found = self._fitting(kid)
            return found

    def _fitting(self, kid: object) -> list[jwt.PyJWK]:
        return [key for key in self._keys if kid is None or key.key_id == kid]

    def _fetch(self) -> dict[str, Any]:
        place = self._settings.jwks
        if "://" in place:
            try:
                return ask(place, None, {}, TIMEOUT_S)
            except WebRefusal as error:
                raise Unavailable("the keys for tokens cannot be fetched") from error
        try:
            found = json.loads(Path(place).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise Unavailable("the keys for tokens cannot be read") from error
        return found if isinstance(found, dict) else {}


def _parse_keys(found: dict[str, Any]) -> list[jwt.PyJWK]:
    """Those that can be used; symmetric ones never."""
    keys = []
    listed = found.get("keys")
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict) or each.get("kty") not in ALGORITHMS:
            continue
        if each.get("use", "sig") != "sig":
            continue
        try:
            keys.append(jwt.PyJWK(each))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    return keys


def _algorithms(key: jwt.PyJWK) -> tuple[str, ...]:
    """What a key may be used with: the algorithm that it names, else those of its type."""
    of_type = ALGORITHMS.get(str(key.key_type), ())
    named = key._jwk_data.get("alg")
    if named is None:
        return of_type
    return (named,) if named in of_type else ()


class Introspection:
    """Asks the issuer (RFC 7662 §2.1)."""

    def __init__(
        self,
        settings: Oauth,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._skew_s = parse_duration(settings.clock_skew)
        self._good: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()
        self._mutex = threading.Lock()

    def claims(self, token: Secret) -> dict[str, Any] | BadToken:
        mark = hashlib.sha256(token.reveal().encode("utf-8", "replace")).digest()
        with self._mutex:
            until, known = self._good.get(mark, (0.0, {}))
        if until > self._monotonic():
            return self._why_bad(known) or known
        found = self._ask(token)
        if found.get("active") is not True:
            return BadToken("the issuer says that the token does not count")
        if bad := self._why_bad(found):
            return bad
        with self._mutex:
            self._good[mark] = (self._monotonic() + REMEMBERED_S, found)
            if len(self._good) > MOST_REMEMBERED:
                self._good.popitem(last=False)
        return found

    def probe(self) -> str:
        self._ask(Secret("a token of nobody"))
        return "the issuer answers"

    def _ask(self, token: Secret) -> dict[str, Any]:
        settings = self._settings
        body = urllib.parse.urlencode(
            {"token": token.reveal(), "token_type_hint": "access_token"}
        ).encode("ascii")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if settings.client_id:
            secret = _read_secret(settings.client_secret_file)
            pair = f"{urllib.parse.quote(settings.client_id)}:{urllib.parse.quote(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        try:
            return ask(settings.introspection_url, body, headers, TIMEOUT_S)
        except WebRefusal as error:
            # RFC 7662 §2.3: it is us that were refused, not the token
            raise Unavailable("the issuer of tokens does not let us ask") from error

    def _why_bad(self, claims: dict[str, Any]) -> BadToken | None:
        """What the issuer left to us (RFC 7662 §4); None: it is good."""
        settings, now = self._settings, self._clock()
        expires, begins = claims.get("exp", now), claims.get("nbf", now)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            return _bad(jwt.InvalidTokenError())
        if expires + self._skew_s < now:
            return _bad(jwt.ExpiredSignatureError())
        if begins - self._skew_s > now:
            return _bad(jwt.ImmatureSignatureError())
        if settings.issuer and claims.get("iss", settings.issuer) != settings.issuer:
            return _bad(jwt.InvalidIssuerError())
        audience = claims.get("aud", settings.audience)
        audiences = audience if isinstance(audience, list) else [audience]
        if settings.audience and settings.audience not in audiences:
            return _bad(jwt.InvalidAudienceError())
        return None


def _read_secret(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip() if path else ""
    except (OSError, ValueError) as error:
        raise Unavailable("the secret for the issuer of tokens cannot be read") from error

"""Access tokens: whose account one is for. Either it is signed (a JWT, with keys from a JWKS file or URL), or its
issuer is asked (RFC 7662 §2).

Only asymmetric algorithms count, and only that of the key's own type: "none", and an HMAC whose key would be a public
key, are refused. Issuer, audience, and an expiry are demanded. All methods of verifiers are for a thread.
"""

import base64
import hashlib
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import jwt

from pillarbox.auth.address import is_address
from pillarbox.auth.keys import TIMEOUT_S, IssuerKeys, algorithms_of
from pillarbox.auth.peer import BadToken
from pillarbox.auth.web import WebRefusal, ask
from pillarbox.config.regular_file import read_secret
from pillarbox.config.schema import Oauth
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret

MOST_TRIED = 10
"""Keys of the issuer, for a token that names none."""

REMEMBERED_S = 60.0
"""How long the issuer is not asked again of a token that was good."""
MOST_REMEMBERED = 10_000


Claims = dict[str, Any]
"""What a token says."""


class TokenVerifier(Protocol):
    """Says what a token says."""

    def known(self, token: Secret) -> Claims | BadToken | None:
        """Its claims if it is good, by what is known here already; None: somebody has to be asked. Takes the time of a
        few signatures, and waits for nobody."""

    def claims(self, token: Secret, timeout_s: float = TIMEOUT_S) -> Claims | BadToken:
        """Its claims if it is good. Blocks, `timeout_s` at most. Raises Unavailable."""

    def probe(self) -> str:
        """What there is to verify tokens with, looked at now, in words. Blocks. Raises Unavailable."""


def make_verifier(settings: Oauth) -> TokenVerifier | None:
    """None: no tokens are taken."""
    if settings.introspection_url:
        return Introspection(settings)
    return SignedTokens(settings) if settings.jwks else None


def user_of(claims: Claims, settings: Oauth) -> str | BadToken:
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
    return user if is_address(user) else BadToken("the token says no address")


class TokenUsers:
    """The users of tokens: what `outside.Doors` wants to have."""

    def __init__(self, verifier: TokenVerifier, settings: Oauth) -> None:
        self._verifier = verifier
        self._settings = settings

    def known(self, token: Secret) -> str | BadToken | None:
        claims = self._verifier.known(token)
        return None if claims is None else self._user(claims)

    def ask(self, token: Secret, timeout_s: float = TIMEOUT_S) -> str | BadToken:
        return self._user(self._verifier.claims(token, timeout_s))

    def _user(self, claims: Claims | BadToken) -> str | BadToken:
        return claims if isinstance(claims, BadToken) else user_of(claims, self._settings)


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
        self._keys = IssuerKeys(settings.jwks, monotonic)

    def known(self, token: Secret) -> Claims | BadToken | None:
        return self._verify(token, self._keys.known)

    def claims(self, token: Secret, timeout_s: float = TIMEOUT_S) -> Claims | BadToken:
        found = self.known(token)
        if found is None:
            found = self._verify(token, lambda kid: self._keys.find(kid, timeout_s))
        assert found is not None
        return found

    def probe(self) -> str:
        count = len(self._keys.fetch())
        return f"there {'is 1 key' if count == 1 else f'are {count} keys'} for tokens"

    def _verify(
        self, token: Secret, find: Callable[[object], list[jwt.PyJWK] | None]
    ) -> Claims | BadToken | None:
        """`find` has the keys for a key id; None, as it says, if it has to be fetched."""
        text = token.reveal()
        try:
            header = jwt.get_unverified_header(text)
            keys = find(header.get("kid"))
            if keys is None:
                return None
            fitting = [key for key in keys if header.get("alg") in algorithms_of(key)]
            if fitting:
                return self._verified_by_one(text, fitting[:MOST_TRIED])
        except jwt.InvalidTokenError as error:
            return _bad(error)
        if not keys:
            return BadToken("the token is signed with a key that the issuer has not")
        return BadToken("the token is signed by an algorithm that is not its key's")

    def _verified_by_one(self, text: str, keys: list[jwt.PyJWK]) -> Claims:
        """A token need not name its key. What is wrong with a token otherwise is told when its signature is good.
        Raises jwt.InvalidTokenError."""
        for key in keys[:-1]:
            with suppress(jwt.InvalidSignatureError):
                return self._verified(text, key)
        return self._verified(text, keys[-1])

    def _verified(self, text: str, key: jwt.PyJWK) -> Claims:
        """Raises jwt.InvalidTokenError."""
        settings = self._settings
        return jwt.decode(
            text,
            key=key.key,
            algorithms=list(algorithms_of(key)),
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=self._skew_s,
            options={"require": ["exp", "iss", "aud"]},
        )


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
        self._good: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()
        self._mutex = threading.Lock()

    def known(self, token: Secret) -> Claims | BadToken | None:
        with self._mutex:
            until, known = self._good.get(_mark_of(token), (0.0, {}))
        return self._why_bad(known) or known if until > self._monotonic() else None

    def claims(self, token: Secret, timeout_s: float = TIMEOUT_S) -> Claims | BadToken:
        known = self.known(token)
        if known is not None:
            return known
        found = self._ask(token, timeout_s)
        if found.get("active") is not True:
            return BadToken("the issuer says that the token does not count")
        if bad := self._why_bad(found):
            return bad
        with self._mutex:
            self._good[_mark_of(token)] = (self._monotonic() + REMEMBERED_S, found)
            if len(self._good) > MOST_REMEMBERED:
                self._good.popitem(last=False)
        return found

    def probe(self) -> str:
        self._ask(Secret("a token of nobody"), TIMEOUT_S)
        return "the issuer answers"

    def _ask(self, token: Secret, timeout_s: float) -> Claims:
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
            return ask(settings.introspection_url, body, headers, timeout_s)
        except WebRefusal as error:
            # RFC 7662 §2.3: it is us that were refused, not the token
            raise Unavailable("the issuer of tokens does not let us ask") from error

    def _why_bad(self, claims: Claims) -> BadToken | None:
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


def _mark_of(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode("utf-8", "replace")).digest()


def _read_secret(path: str) -> str:
    try:
        return read_secret(Path(path)).strip() if path else ""
    except OSError as error:
        raise Unavailable("the secret for the issuer of tokens cannot be read") from error

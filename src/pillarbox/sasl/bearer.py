"""OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner, which many clients still speak: a token instead of a password.

Nothing here looks into a token. A token that is refused is answered with a reason in JSON, and the client must say
something before the exchange fails (RFC 7628 §3.2.3).
"""

import json
import re

from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import (
    MAX_IDENTITY_OCTETS,
    BearerToken,
    Challenge,
    SaslError,
    Step,
    decode_text,
)

MAX_TOKEN_OCTETS = 8192

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_MALFORMED = SaslError("Not a message with a bearer token")
_REFUSED = SaslError("The token was refused")


class Bearer:
    """Both mechanisms; `legacy` is XOAUTH2. Serves one exchange."""

    __slots__ = ("_is_refused", "_legacy")

    def __init__(self, *, legacy: bool) -> None:
        self._legacy = legacy
        self._is_refused = False

    def start(self, initial: bytes | None) -> Step:
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        if self._is_refused:
            return _REFUSED  # RFC 7628 §3.2.3: whatever the client says
        if self._legacy:
            return _parse_legacy(response)
        return _parse(response)

    def refused(self, configuration: str = "") -> Step:
        """Tell why the token is not taken; `configuration` is the URL of the issuer's OpenID configuration."""
        self._is_refused = True
        if self._legacy:
            status = {"status": "401", "schemes": "bearer", "scope": ""}
        else:
            status = {"status": "invalid_token"}  # RFC 6750 §3.1
            if configuration:
                status["openid-configuration"] = configuration
        return Challenge(json.dumps(status).encode("ascii"))


def _parse(message: bytes) -> Step:
    """RFC 7628 §3.1: gs2-header, then pairs of key and value, each and all ended by 0x01."""
    header, *pairs = message.split(b"\x01")
    flag, _, rest = header.partition(b",")
    authorization, comma, surplus = rest.partition(b",")
    # RFC 7628 §3.1: no channel binding
    if flag not in (b"n", b"y") or not comma or surplus or pairs[-2:] != [b"", b""]:
        return _MALFORMED
    authzid: str | None = ""
    if authorization:
        quoted = authorization.removeprefix(b"a=")
        name = quoted.replace(b"=2C", b",").replace(b"=3D", b"=")
        authzid = decode_text(name, MAX_IDENTITY_OCTETS) if quoted != authorization else None
    values = dict(pair.partition(b"=")[::2] for pair in pairs[:-2])
    return _claim(authzid, values.get(b"auth", b""))


def _parse_legacy(message: bytes) -> Step:
    """user=NAME 0x01 auth=Bearer TOKEN 0x01 0x01"""
    user, *pairs = message.split(b"\x01")
    if len(pairs) != 3 or pairs[1:] != [b"", b""] or not user.startswith(b"user="):
        return _MALFORMED
    name = decode_text(user[len(b"user=") :], MAX_IDENTITY_OCTETS)
    return _claim(name, pairs[0].removeprefix(b"auth="))


def _claim(authzid: str | None, value: bytes) -> Step:
    scheme, _, token = value.partition(b" ")
    if authzid is None or scheme.lower() != b"bearer" or len(token) > MAX_TOKEN_OCTETS:
        return _MALFORMED
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        return _MALFORMED
    return BearerToken(authzid, Secret(token.decode("ascii")))

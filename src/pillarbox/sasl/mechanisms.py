"""The table of SASL mechanisms, in the order in which they are announced, the best first (RFC 4422 §3.1).

`MECHANISMS[name].begin(surroundings)` begins an exchange; `offered` says which names fit a connection. CRAM-MD5,
DIGEST-MD5 and APOP are not here: they need passwords that are kept in the clear.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from functools import cache
from types import MappingProxyType

from pillarbox.core.engine import SECRET
from pillarbox.sasl.bearer import Bearer
from pillarbox.sasl.exchange import Mechanism, Surroundings
from pillarbox.sasl.external import External
from pillarbox.sasl.login import Login
from pillarbox.sasl.plain import Plain
from pillarbox.sasl.scram import Scram


class Needs(Flag):
    """What a mechanism needs: of those who verify, or of the connection."""

    NOTHING = 0
    VERIFIERS = auto()
    """SCRAM verifiers are kept."""
    BINDING = auto()
    """The connection has a channel binding."""
    TOKENS = auto()
    """Somebody can verify tokens."""
    CERTIFICATE = auto()
    """The client has shown a certificate that we trust."""


@dataclass(slots=True, frozen=True)
class Row:
    begin: Callable[[Surroundings], Mechanism]
    needs: Needs = Needs.NOTHING


MECHANISMS: Mapping[str, Row] = MappingProxyType(
    {
        "SCRAM-SHA-256-PLUS": Row(
            lambda surroundings: Scram(surroundings, plus=True), Needs.VERIFIERS | Needs.BINDING
        ),
        "SCRAM-SHA-256": Row(lambda surroundings: Scram(surroundings, plus=False), Needs.VERIFIERS),
        "EXTERNAL": Row(lambda _surroundings: External(), Needs.CERTIFICATE),
        "OAUTHBEARER": Row(lambda _surroundings: Bearer(legacy=False), Needs.TOKENS),
        "XOAUTH2": Row(lambda _surroundings: Bearer(legacy=True), Needs.TOKENS),
        "PLAIN": Row(lambda _surroundings: Plain()),
        "LOGIN": Row(lambda _surroundings: Login()),
    }
)


@cache  # asked for with each EHLO, and what Flag does is Python
def offered(available: Needs) -> tuple[str, ...]:
    """The names of the mechanisms that need nothing but what is there."""
    return tuple(name for name, row in MECHANISMS.items() if not row.needs & ~available)


def show_auth(argument: bytes) -> bytes:
    """What follows AUTH or AUTHENTICATE, as it may be shown: the mechanism, if it is one. Example: b"PLAIN AGEAYg==" ->
    b"PLAIN <secret>"."""
    mechanism, space, _ = argument.strip().partition(b" ")
    if mechanism.upper().decode("ascii", "replace") not in MECHANISMS:
        return SECRET
    return mechanism + b" " + SECRET if space else mechanism

"""PLAIN (RFC 4616): one message with both identities and the password."""

from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import (
    MAX_IDENTITY_OCTETS,
    MAX_PASSWORD_OCTETS,
    Challenge,
    Credentials,
    SaslError,
    Step,
    decode_text,
)

_MALFORMED = SaslError("PLAIN needs [authzid] NUL authcid NUL password in UTF-8")


class Plain:
    """The client speaks first; without an initial response it gets an empty challenge (RFC 4422 §5.1)."""

    __slots__ = ()

    def start(self, initial: bytes | None) -> Step:
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        # RFC 4616 §2: message = [authzid] NUL authcid NUL passwd
        parts = response.split(b"\0")
        if len(parts) != 3:
            return _MALFORMED
        authzid = decode_text(parts[0], MAX_IDENTITY_OCTETS) if parts[0] else ""
        username = decode_text(parts[1], MAX_IDENTITY_OCTETS)
        password = decode_text(parts[2], MAX_PASSWORD_OCTETS)
        if authzid is None or username is None or password is None:
            return _MALFORMED
        return Credentials(authzid, username, Secret(password))

"""LOGIN (draft-murchison-sasl-login-00): obsolete, and still what many clients speak."""

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

# §2.2 allows these instead of "User Name" and "Password": a widely deployed client requires them.
_USERNAME = Challenge(b"Username:")
_PASSWORD = Challenge(b"Password:")


class Login:
    """Asks for the user name, then for the password. There is no authorization identity."""

    __slots__ = ("_username",)

    def __init__(self) -> None:
        self._username: str | None = None

    def start(self, initial: bytes | None) -> Step:
        # DEVIATES: RFC 4954 §4 refuses an initial response where the server speaks first; many clients
        # send the user name there, and every common server takes it.
        return _USERNAME if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        if self._username is None:
            # DEVIATES: draft-murchison-sasl-login §2 wants less than 64 characters; user names here are
            # mail addresses, which may be longer.
            self._username = decode_text(response, MAX_IDENTITY_OCTETS)
            return SaslError("Bad user name") if self._username is None else _PASSWORD
        # DEVIATES: §2 allows binary passwords; they cannot be prepared as text and hashed like others.
        password = decode_text(response, MAX_PASSWORD_OCTETS)
        if password is None:
            return SaslError("Bad password syntax")
        return Credentials("", self._username, Secret(password))

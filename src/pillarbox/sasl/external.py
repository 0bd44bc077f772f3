"""EXTERNAL (RFC 4422 appendix A): the client's certificate says who it is; the message, at most, as whom it acts."""

from pillarbox.sasl.exchange import (
    MAX_IDENTITY_OCTETS,
    CertificateClaim,
    Challenge,
    SaslError,
    Step,
    decode_text,
)


class External:
    """The client speaks first; an empty message stands for the identity of the certificate."""

    __slots__ = ()

    def start(self, initial: bytes | None) -> Step:
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, response: bytes) -> Step:
        if not response:
            return CertificateClaim("")
        authzid = decode_text(response, MAX_IDENTITY_OCTETS)
        return (
            SaslError("Bad authorization identity")
            if authzid is None
            else CertificateClaim(authzid)
        )

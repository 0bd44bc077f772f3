"""AUTH as a server reads it (RFC 4954 §4): octets in, events or the refusing reply out."""

from pillarbox.sasl.exchange import decode_base64, decode_initial
from pillarbox.smtp import reply as replies
from pillarbox.smtp.events import Auth, AuthResponse
from pillarbox.smtp.reply import Reply


def parse_auth(
    argument: bytes, mechanisms: tuple[str, ...], authenticated: bool, offered: bool
) -> Auth | Reply:
    """The argument of AUTH, where `mechanisms` are known, and `offered` in the present situation."""
    name, _, encoded = argument.partition(b" ")
    mechanism = name.upper().decode("ascii", "replace")
    if not mechanisms:
        return replies.NOT_IMPLEMENTED
    if authenticated:
        return replies.ALREADY_AUTHENTICATED
    if mechanism not in mechanisms:
        return replies.UNKNOWN_MECHANISM
    if not offered:
        return replies.TLS_FOR_MECHANISM
    initial = decode_initial(encoded) if encoded else None
    if encoded and initial is None:
        return replies.BAD_BASE64
    return Auth(mechanism, initial)


def parse_auth_response(line: bytes) -> AuthResponse | Reply:
    """A line behind a challenge."""
    if line == b"*":
        return replies.AUTHENTICATION_CANCELLED
    response = decode_base64(line)
    return replies.BAD_BASE64 if response is None else AuthResponse(response)

"""Whether the octets of an LDAP message have a result code at all (RFC 4511 §4.1.1, §4.1.9; BER: X.690).

No parser of LDAP: what else a message says, a library reads.
"""

from pillarbox.auth.failure import NoAnswer

_SEQUENCE, _INTEGER, _ENUMERATED = 0x30, 0x02, 0x0A
_WITHOUT_RESULT = (0x64, 0x73, 0x79)
"""SearchResultEntry, SearchResultReference, IntermediateResponse"""


def ensure_result(message: bytes) -> None:
    """Raises NoAnswer for an answer whose resultCode is no ENUMERATED, or is 0 without being one octet 0."""
    start, _ = _content(message, 0, _SEQUENCE)
    _, end = _content(message, start, _INTEGER)  # messageID
    if end < len(message) and message[end] in _WITHOUT_RESULT:
        return
    start, _ = _content(message, end)  # protocolOp
    start, end = _content(message, start, _ENUMERATED)
    code = message[start:end]
    if not code or (len(code) > 1 and not any(code)):
        raise NoAnswer("a result has no proper code")


def _content(octets: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
    """Where the content of the element at a place begins and ends."""
    size_at = at + 1
    if size_at >= len(octets) or (tag is not None and octets[at] != tag):
        raise NoAnswer("an answer is no LDAP message")
    size, start = octets[size_at], size_at + 1
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(octets[size_at + 1 : start])
    if start + size > len(octets):
        raise NoAnswer("an answer is no LDAP message")
    return start, start + size

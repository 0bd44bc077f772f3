"""The relaxed canonical forms (RFC 6376 §3.4.2, §3.4.4), whole blocks at a time.

Lines end with CRLF only: whoever signs or verifies has seen to that.
"""


def relaxed_field(field: bytes) -> bytes:
    """A raw field with its folding -> its canonical form with CRLF. `field` has a colon.

    Example: `b"SubJect:  a\\r\\n\\t b \\r\\n"` -> `b"subject:a b\\r\\n"`.
    """
    name, _, value = field.partition(b":")
    if b"\n" in value:
        value = value.replace(b"\r\n", b"")
    return b"%b:%b\r\n" % (name.rstrip(b" \t").lower(), _single_spaces(value).strip(b" "))


def relaxed_body(body: bytes) -> bytes:
    """Example: `b" a  b \\r\\n\\r\\n\\r\\n"` -> `b" a b\\r\\n"`. Without a line of text: `b""`."""
    text = _single_spaces(body).replace(b" \r\n", b"\r\n")
    text = text.removesuffix(b" ").rstrip(b"\r\n")
    return text + b"\r\n" if text else b""


def _single_spaces(octets: bytes) -> bytes:
    """Each run of white space becomes one space. Runs are halved in turn: as many passes as the longest one has binary
    digits, most often one or two, and several times faster than a regular expression."""
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets

"""Signing (RFC 6376 §5): relaxed/relaxed, one signature for each key, over the whole body (no `l=`).

Called last, when nothing will change the message any more. RSA-2048 takes nearly all of the time.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pillarbox.core.address import canonical_domain
from pillarbox.dkim.canonical import relaxed_body, relaxed_field
from pillarbox.dkim.keys import PrivateKey
from pillarbox.mime.address_list import MAX_ADDRESSES, parse_address_list
from pillarbox.mime.header import field_value, header_end, split_header

# RFC 6376 §5.4.1, and what tells how the body is to be read. Not what is changed on the way (Received, Return-Path).
SIGNED_FIELDS = frozenset(
    b"from reply-to subject date to cc resent-date resent-from resent-to resent-cc in-reply-to references"
    b" list-id list-help list-unsubscribe list-unsubscribe-post list-subscribe list-post list-owner list-archive"
    b" message-id mime-version content-type content-transfer-encoding".split()
)
LARGEST_FROM = 8192
"""Octets of a From field: of these, the parser of addresses looks at all."""

MAX_SIGNED = 200
"""Fields of one message that are signed, the last ones: some verifiers refuse longer lists."""

_LINE = 72
_SELECTOR = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


@dataclass(slots=True, frozen=True)
class Signer:
    """A key and where its record stands. `domain` is canonical (A-labels).

    Raises ValueError for what cannot be a selector or a domain (RFC 6376 §3.1).
    """

    domain: str
    selector: str
    key: PrivateKey

    def __post_init__(self) -> None:
        if not _SELECTOR.fullmatch(self.selector) or len(self.selector) > 63:
            raise ValueError(f"not a selector: {self.selector}")
        if canonical_domain(self.domain) != self.domain or self.domain.startswith("["):
            raise ValueError(f"not a canonical domain: {self.domain}")


def author_domain(message: bytes) -> str | None:
    """The domain of From, whose signature DMARC wants: canonical; None if there is none, or more than one."""
    block = message[: header_end(message)]
    domains: set[bytes] = set()
    for name, start, end in split_header(block):
        if name != b"from":
            continue
        value = field_value(block, start, end)
        entries = parse_address_list(value) if len(value) <= LARGEST_FROM else []
        if len(entries) >= MAX_ADDRESSES or len(value) > LARGEST_FROM:
            return None  # there may be authors that nobody has looked at
        domains.update(entry.host for entry in entries if entry.host is not None)
    if len({domain.lower() for domain in domains}) != 1:
        return None
    try:
        domain = canonical_domain(domains.pop().decode("utf-8"))
    except ValueError:
        return None
    return None if domain.startswith("[") else domain


def sign(message: bytes, signers: Sequence[Signer], now: int) -> bytes:
    """The DKIM-Signature fields to be put in front of `message`, in the order of `signers`; `now` in epoch seconds.

    Raises ValueError if the message has no From (RFC 6376 §5.4): nothing could be signed.
    """
    end = header_end(message)
    block = message[:end]
    body_hash = hashlib.sha256(relaxed_body(message[end:])).digest()
    fields = [
        (name, block[start:stop])
        for name, start, stop in split_header(block)
        if name in SIGNED_FIELDS
    ][-MAX_SIGNED:]
    if not any(name == b"from" for name, _ in fields):
        raise ValueError("the message has no From field")
    # From the bottom up, as instances of a field are counted (RFC 6376 §5.4.2).
    fields.reverse()
    names = [name.decode("ascii") for name, _ in fields]
    # RFC 6376 §5.4: listed once more than it is there, so that no second one can be added.
    names.append("from")
    signed = b"".join(relaxed_field(_with_crlf(field)) for _, field in fields)
    return b"".join(_signature(signer, names, body_hash, signed, now) for signer in signers)


def _with_crlf(field: bytes) -> bytes:
    return field if field.endswith(b"\r\n") else field + b"\r\n"


def _signature(
    signer: Signer, names: list[str], body_hash: bytes, signed: bytes, now: int
) -> bytes:
    key = signer.key
    algorithm = "ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256"
    unsigned = (
        f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; t={now};\r\n"
        f" d={signer.domain};\r\n s={signer.selector};\r\n"
        f" h={_fold_names(names)};\r\n bh={b64encode(body_hash).decode('ascii')};\r\n b="
    ).encode("ascii")
    # RFC 6376 §3.7: the signature field itself comes last, with an empty b=, and without its CRLF.
    octets = signed + relaxed_field(unsigned + b"\r\n").removesuffix(b"\r\n")
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(hashlib.sha256(octets).digest())  # RFC 8463 §3
    else:
        signature = key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    encoded = b64encode(signature)
    lines = [encoded[start : start + _LINE] for start in range(0, len(encoded), _LINE)]
    return unsigned + b"\r\n ".join(lines) + b"\r\n"


def _fold_names(names: list[str]) -> str:
    """RFC 6376 §3.5: white space is allowed around the colons of h=."""
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) >= _LINE:
            lines.append(line)
            line = ""
        line += f"{name}:"
    return "\r\n  ".join([*lines, line.removesuffix(":")])

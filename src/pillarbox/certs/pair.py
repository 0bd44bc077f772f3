"""One certificate file and its key: read, checked, and what it says. Blocks, for it reads files."""

import datetime
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

Paths = tuple[Path, Path]
"""Of a certificate chain and its key, both PEM."""

Stamp = tuple[tuple[int, int, int], ...]
"""Changes with the content of the files."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that fits its key."""

    paths: Paths
    names: tuple[str, ...]
    """DNS names, in lower case, as A-labels; "*.example.org" is a wildcard."""
    addresses: tuple[str, ...]
    issuer: str
    start: datetime.datetime
    end: datetime.datetime
    """The earliest of all in the chain."""
    is_self_signed: bool


def stamp(paths: Paths) -> Stamp:
    """Follows symbolic links. Raises OSError."""
    found = [path.stat() for path in paths]
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)


def read_pair(paths: Paths) -> Pair:
    """Raises OSError, and ValueError that says what is wrong with which file."""
    chain = _read_chain(paths[0])
    key = _read_key(paths[1])
    leaf = chain[0]
    if not _fits(key, leaf):
        if any(_fits(key, other) for other in chain[1:]):
            raise ValueError(
                f"{paths[0]}: the chain is out of order: the certificate of the host must come first"
            )
        raise ValueError(f"{paths[0]}: the key {paths[1]} is not that of the certificate")
    # RFC 8446 §4.4.2: each following certificate SHOULD directly certify the one before; under TLS 1.2 it must.
    for number, (below, above) in enumerate(pairwise(chain), 2):
        if not _is_issued_by(below, above):
            raise ValueError(
                f"{paths[0]}: the chain is out of order: certificate {number} ({_name(above.subject)}) has"
                f" not signed the one before it ({_name(below.subject)})"
            )
    names, addresses = _names(leaf)
    return Pair(
        paths,
        names,
        addresses,
        _name(leaf.issuer),
        max(each.not_valid_before_utc for each in chain),
        min(each.not_valid_after_utc for each in chain),
        leaf.issuer == leaf.subject,
    )


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: it is not PEM with a certificate") from error


def _read_key(path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except TypeError as error:
        raise ValueError(f"{path}: the key is encrypted; store it without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: it is not PEM with a private key") from error


def _fits(key: Any, certificate: x509.Certificate) -> bool:
    try:
        return bool(key.public_key() == certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _is_issued_by(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(leaf: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(DNS names, addresses)"""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return (), ()  # names of the subject count no more: RFC 9525 §6.3
    names = (name.lower() for name in found.get_values_for_type(x509.DNSName))
    addresses = (str(each) for each in found.get_values_for_type(x509.IPAddress))
    return tuple(names), tuple(addresses)


def _name(name: x509.Name) -> str:
    """For people: the common name, or all of it."""
    for attribute in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(attribute):
            return str(found[0].value)
    return name.rfc4514_string() or "(no name)"

"""One certificate file and its key: read, checked, and what it says."""

import datetime
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from pillarbox.config.regular_file import read_regular

Paths = tuple[Path, Path]
"""Of a certificate chain and its key, both PEM."""

Contents = tuple[bytes, ...]
"""Of these files."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that fits its key."""

    paths: Paths
    names: tuple[str, ...]
    """DNS names, in lower case, as A-labels; "*.example.org" is a wildcard."""
    addresses: tuple[str, ...]
    issuer: str
    """Who signed it."""
    chain_issuer: str
    """Who signed the last one of the chain."""
    start: datetime.datetime
    end: datetime.datetime
    """The earliest of all in the chain."""
    is_self_signed: bool


def read_pair(paths: Paths) -> Pair:
    """Blocks. Raises OSError, and ValueError that says what is wrong with which file."""
    return parse_pair(paths, tuple(read_regular(path) for path in paths))


def parse_pair(paths: Paths, contents: Contents) -> Pair:
    """The same, of what stands in the files. Raises ValueError."""
    chain = _parse_chain(paths[0], contents[0])
    key = _parse_key(paths[1], contents[1])
    leaf = chain[0]
    if not _fits(key, leaf):
        other = next((each for each in chain[1:] if _fits(key, each)), None)
        if other is not None and _is_issued_by(leaf, other):
            raise ValueError(
                f"{paths[1]}: this is the key of {_name(other.subject)}, which signed the certificate of the host;"
                " name the key of the host"
            )
        if other is not None:
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
        _name(chain[-1].issuer),
        max(each.not_valid_before_utc for each in chain),
        min(each.not_valid_after_utc for each in chain),
        leaf.issuer == leaf.subject,
    )


def _parse_chain(path: Path, octets: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError as error:
        raise ValueError(f"{path}: it is not PEM with a certificate") from error
    except x509.InvalidVersion as error:
        raise ValueError(f"{path}: it has a certificate of a version that there is not") from error


def _parse_key(path: Path, octets: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(octets, None)
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
    except (
        ValueError,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.UnsupportedGeneralNameType,
    ):
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

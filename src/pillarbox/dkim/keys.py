"""Keys for signing: made, kept as PEM, and published as TXT records (RFC 6376 §3.6, RFC 8301, RFC 8463).

A domain has an RSA key, which everybody verifies, and an Ed25519 key with a selector of its own. Keys are replaced by
new ones with new selectors: first the record, then the signatures, and the old record goes last.
"""

from base64 import b64encode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

RSA_BITS = 2048
"""RFC 8301 §3.2: SHOULD be 2048 at least; larger ones do not fit into every DNS answer."""
MIN_RSA_BITS = 1024
"""RFC 8301 §3.2: signers MUST use 1024 at least."""

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


def make_rsa_key() -> RSAPrivateKey:
    """Blocks for some tenths of a second."""
    return generate_private_key(65537, RSA_BITS)


def make_ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def format_key(key: PrivateKey) -> bytes:
    """As PEM (PKCS #8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def parse_key(pem: bytes) -> PrivateKey:
    """Raises ValueError for what is no key, a key of another kind, or a weak one."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError as error:
        raise ValueError("the key is encrypted") from error
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits is too weak for DKIM")
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError("DKIM has RSA and Ed25519 keys only")


def record_name(selector: str, domain: str) -> str:
    """Where the record stands (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def record_text(key: PrivateKey) -> str:
    """The TXT record of the public key (RFC 6376 §3.6.1; RFC 8463 §4: the 32 octets as they are)."""
    if isinstance(key, Ed25519PrivateKey):
        kind, octets = "ed25519", key.public_key().public_bytes_raw()
    else:
        kind = "rsa"
        octets = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return f"v=DKIM1; k={kind}; p={b64encode(octets).decode('ascii')}"


def zone_strings(text: str) -> str:
    """A TXT value for a zone file: strings of at most 255 octets (RFC 1035 §3.3.14), in quotes.

    `text` has neither quotes nor backslashes.
    """
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))

"""SASLprep (RFC 4013) and the SCRAM verifier (RFC 5802, RFC 7677)."""

import base64
import hashlib
import hmac

import pytest

from pillarbox.core.secret import Secret
from pillarbox.sasl.saslprep import saslprep
from pillarbox.sasl.scram import Verifier, derive_verifier


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013 §3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("", ""),
        ("\u00ad", ""),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_saslprep_prepares(text: str, prepared: str) -> None:
    assert saslprep(text, stored=True) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "\u0007",  # RFC 4013 §3: prohibited
        "\u0627\u0031",  # RFC 4013 §3: bidirectional check
        "\u0627a\u0628",
        "a\x7f",
        "\ud800",
        "\ue000",
        "\ufff9",
    ],
)
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        saslprep(text, stored=False)


def test_unassigned_code_points_are_allowed_in_queries_only() -> None:
    assert saslprep("\u0221", stored=False) == "\u0221"
    with pytest.raises(ValueError):
        saslprep("\u0221", stored=True)


def proof_is_right(verifier: Verifier, auth_message: bytes, proof: str, signature: str) -> bool:
    """Server side of RFC 5802 §3: recover ClientKey from the proof, compare; then ServerSignature."""
    client_signature = hmac.digest(verifier.stored_key, auth_message, verifier.hash)
    pairs = zip(base64.b64decode(proof), client_signature, strict=True)
    client_key = bytes(a ^ b for a, b in pairs)
    server_signature = hmac.digest(verifier.server_key, auth_message, verifier.hash)
    return (
        hashlib.new(verifier.hash, client_key).digest() == verifier.stored_key
        and base64.b64encode(server_signature).decode() == signature
    )


def test_example_exchange_of_rfc_5802() -> None:
    salt = base64.b64decode("QSXCR+Q6sek8bf92")
    verifier = derive_verifier(Secret("pencil"), salt, 4096, "sha1")
    message = (
        b"n=user,r=fyko+d2lbbFgONRv9qkxdawL,"
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"
    )
    assert proof_is_right(
        verifier, message, "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ="
    )


def test_example_exchange_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = derive_verifier(Secret("pencil"), salt, 4096, "sha256")
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonce
    )
    assert proof_is_right(
        verifier,
        message,
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    )
    assert "stored_key" not in repr(verifier)


@pytest.mark.parametrize(("password", "iterations"), [("", 4096), ("\u00ad", 4096), ("x", 4095)])
def test_no_verifier_without_password_or_with_few_iterations(
    password: str, iterations: int
) -> None:
    with pytest.raises(ValueError):
        derive_verifier(Secret(password), b"salt", iterations, "sha256")

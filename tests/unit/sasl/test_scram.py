"""SASLprep (RFC 4013) and the SCRAM verifier (RFC 5802, RFC 7677)."""

import base64
import hashlib
import hmac

import pytest

from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import (
    Challenge,
    ChannelBinding,
    Disproven,
    Proven,
    SaslError,
    Step,
    Surroundings,
    VerifierWanted,
)
from pillarbox.sasl.saslprep import saslprep
from pillarbox.sasl.scram import Scram, Verifier, derive_verifier


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


EXPORTER = ChannelBinding("tls-exporter", b"\x01" * 32)
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
PENCIL = derive_verifier(
    Secret("pencil"), base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096, "sha256"
)
OTHER = derive_verifier(Secret("other"), PENCIL.salt, 4096, "sha256")


def wrong_proof_after(first: bytes, binding: ChannelBinding | None, *, plus: bool) -> Step:
    machine = Scram(Surroundings("nonce", binding), plus=plus)
    step = machine.start(first)
    if not isinstance(step, VerifierWanted):
        return step
    machine.found([PENCIL])
    proof = base64.b64encode(b"x" * 32)
    return machine.respond(b"c=biws,r=rOprNGfwEbeRWgbNEkqOnonce,p=" + proof)


@pytest.mark.parametrize("verifiers", [[PENCIL], [OTHER, PENCIL]])
def test_the_example_of_rfc_7677(verifiers: list[Verifier]) -> None:
    machine = Scram(Surroundings("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), plus=False)
    assert machine.start(FIRST) == VerifierWanted("", "user")
    assert machine.found(verifiers) == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = machine.respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert machine.respond(b"") == Proven("", "user", verifiers.index(PENCIL))


def test_a_wrong_proof_proves_nothing() -> None:
    assert wrong_proof_after(FIRST, None, plus=False) == Disproven("", "user")


def test_a_void_verifier_proves_nothing_and_is_told() -> None:
    machine = Scram(Surroundings("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), plus=False)
    machine.start(FIRST)
    machine.found([OTHER], [OTHER, PENCIL])
    final = machine.respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == Disproven("", "user", void=1)


@pytest.mark.parametrize(
    ("first", "binding", "plus"),
    [
        (b"y" + FIRST[1:], EXPORTER, False),  # a downgrade (RFC 5802 §6)
        (b"p=tls-exporter" + FIRST[1:], EXPORTER, False),
        (b"p=tls-unique" + FIRST[1:], EXPORTER, True),
        (b"p=tls-exporter" + FIRST[1:], None, True),
        (FIRST, EXPORTER, True),
        (b"p=" + FIRST[1:], EXPORTER, True),
        (b"", None, False),
        (b"x" + FIRST[1:], None, False),
        (b"n,,m=ext,n=user,r=abc", None, False),  # RFC 5802 §5.1: no extension is mandatory
        (b"n,,n=us=er,r=abc", None, False),
        (b"n,,n=,r=abc", None, False),
        (b"n,,n=user,r=", None, False),
        (b"n,,n=user,r=\x7f", None, False),
        (b"n,,n=\xc2\xad,r=abc", None, False),  # nothing is left of it
        (b"n,x,n=user,r=abc", None, False),
        (b"n,,n=\xff,r=abc", None, False),
        (b"n,,n=user,r=abc" + b"x" * 5000, None, False),
    ],
)
def test_bad_first_messages_are_refused(
    first: bytes, binding: ChannelBinding | None, plus: bool
) -> None:
    assert isinstance(wrong_proof_after(first, binding, plus=plus), SaslError)


def test_a_client_that_could_bind_is_content_where_the_server_cannot() -> None:
    assert isinstance(wrong_proof_after(b"y" + FIRST[1:], None, plus=False), Disproven)


def test_names_are_unquoted_and_prepared() -> None:
    machine = Scram(Surroundings("nonce"), plus=False)
    assert machine.start(b"n,a=b=3Dc,n=I\xc2\xadX=2Cy,r=abc") == VerifierWanted("b=c", "IX,y")

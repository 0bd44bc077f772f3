"""What is wrong with the files of a certificate is said in one line."""

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pillarbox.certs.pair import read_pair
from pillarbox.certs.present import problems_of

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA().create_child_ca()


@pytest.fixture
def paths(tmp_path: Path, authority: trustme.CA) -> tuple[Path, Path]:
    issued = authority.issue_cert("Mail.example.org", "*.example.net", "192.0.2.1")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def test_names_issuer_and_end_are_told(paths: tuple[Path, Path]) -> None:
    pair = read_pair(paths)
    assert pair.names == ("mail.example.org", "*.example.net")
    assert pair.addresses == ("192.0.2.1",)
    assert "trustme" in pair.issuer
    assert not pair.is_self_signed
    assert problems_of(pair, NOW) == []


Breaking = Callable[[Path, Path, trustme.CA], object]


END = "-----END CERTIFICATE-----\n"


def turn_round(certificate: Path) -> None:
    parts = [part + END for part in certificate.read_text().split(END) if part.strip()]
    certificate.write_text("".join(reversed(parts)))


def take_key_of_ca(certificate: Path, key: Path, ca: trustme.CA) -> None:
    key.write_bytes(ca.private_key_pem.bytes())
    certificate.write_bytes(certificate.read_bytes() + ca.cert_pem.bytes())


def append_stranger(certificate: Path) -> None:
    certificate.write_bytes(certificate.read_bytes() + trustme.CA().cert_pem.bytes())


def encrypt(key: Path) -> None:
    found = serialization.load_pem_private_key(key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    pkcs8 = serialization.PrivateFormat.PKCS8
    key.write_bytes(found.private_bytes(serialization.Encoding.PEM, pkcs8, how))


def change(certificate: Path, old: bytes, new: bytes) -> None:
    """The octets of the first one."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text().partition("-----END")[0] + END)
    assert der.count(old) == 1
    certificate.write_text(ssl.DER_cert_to_PEM_cert(der.replace(old, new)))


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (lambda c, k, ca: k.write_bytes(ca.issue_cert("a.example").private_key_pem.bytes()), "not that of"),
        (lambda c, k, ca: take_key_of_ca(c, k, ca), "this is the key of"),
        (lambda c, k, ca: turn_round(c), "chain is out of order: the certificate of the host"),
        (lambda c, k, ca: append_stranger(c), "chain is out of order: certificate 3"),
        (lambda c, k, ca: change(c, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"), "a version that there is not"),
        (lambda c, k, ca: c.write_text("x"), "not PEM with a certificate"),
        (lambda c, k, ca: k.write_text("x"), "not PEM with a private key"),
        (lambda c, k, ca: encrypt(k), "the key is encrypted"),
    ],
)  # fmt: skip
def test_faults_are_named(
    paths: tuple[Path, Path], authority: trustme.CA, breaking: Breaking, words: str
) -> None:
    breaking(*paths, authority)
    with pytest.raises(ValueError, match=words) as caught:
        read_pair(paths)
    assert "\n" not in str(caught.value)


def test_names_of_a_kind_that_is_not_known_are_none(paths: tuple[Path, Path]) -> None:
    """RFC 5280 §4.2.1.6: an ediPartyName, say. The certificate can be used, and is blamed."""
    change(paths[0], b"\x82\x10mail.example.org", b"\xa5\x10mail.example.org")
    pair = read_pair(paths)
    assert (pair.names, pair.addresses) == ((), ())
    (problem,) = problems_of(pair, NOW)
    assert "no subjectAltName that can be read" in problem


def test_an_expired_pair_can_be_read_and_is_blamed(tmp_path: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("a.example", not_after=NOW - datetime.timedelta(days=3))
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    (problem,) = problems_of(read_pair((certificate, key)), NOW)
    assert problem.startswith("it expired on ")

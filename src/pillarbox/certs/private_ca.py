"""A private CA in `data_dir/tls/` that signs an ECDSA certificate for this host: TLS works from the first start.

`ca.pem` is what clients are given to trust. The host's certificate is made anew when it nears its end or when the
host name changes; the CA stays.
"""

import datetime
import fcntl
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pillarbox.certs.files import write_whole
from pillarbox.config.regular_file import read_regular

CA_DAYS = 3650
HOST_DAYS = 397
RENEW_DAYS = 30
"""The host's certificate is replaced when it has fewer days left than this."""


def ensure_certificate(folder: Path, hostname: str, now: datetime.datetime) -> tuple[Path, Path]:
    """Paths of a certificate chain and its key for `hostname`, localhost, 127.0.0.1 and ::1, made if need be.

    Raises OSError, ValueError (a file that is there is no good).
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate_path, key_path = private_paths(folder)
    if not _is_current(certificate_path, key_path, hostname, now):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one worker of several makes it
            if not _is_current(certificate_path, key_path, hostname, now):
                _make(certificate_path, key_path, hostname, now)
        finally:
            os.close(lock)
    return certificate_path, key_path


def private_paths(folder: Path) -> tuple[Path, Path]:
    """Where the host's certificate chain and its key are, or will be."""
    return folder / "host.pem", folder / "host-key.pem"


def _make(certificate_path: Path, key_path: Path, hostname: str, now: datetime.datetime) -> None:
    ca, ca_key = _ensure_ca(certificate_path.parent, now)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(hostname, key.public_key(), ca, ca_key, now)
    write_whole(key_path, _pem(key), 0o600)
    write_whole(certificate_path, _text(certificate) + _text(ca), 0o644)


def _is_current(certificate: Path, key: Path, hostname: str, now: datetime.datetime) -> bool:
    if not certificate.exists() or not key.exists():
        return False
    parsed = x509.load_pem_x509_certificate(read_regular(certificate))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if hostname not in names.get_values_for_type(x509.DNSName):
        return False
    return parsed.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)


def _ensure_ca(
    folder: Path, now: datetime.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = folder / "ca.pem", folder / "ca-key.pem"
    if certificate_path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(read_regular(certificate_path))
        key = serialization.load_pem_private_key(read_regular(key_path), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_path} is not an ECDSA key")
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pillarbox private CA")])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_whole(key_path, _pem(key), 0o600)
    write_whole(certificate_path, _text(certificate), 0o644)
    return certificate, key


def _sign(
    hostname: str,
    key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    names: list[x509.GeneralName] = [
        x509.DNSName(name) for name in dict.fromkeys((hostname, "localhost"))
    ]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    return (
        _builder(subject, ca.subject, key, now, HOST_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

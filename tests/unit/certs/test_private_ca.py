"""The private CA: made once, trusted by clients, its host certificate renewed in time."""

import contextlib
import datetime
import ssl
from pathlib import Path

from cryptography import x509

from pillarbox.certs.private_ca import HOST_DAYS, ensure_certificate
from pillarbox.net.tls import server_context

NOW = datetime.datetime.now(datetime.UTC)


def names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_files_are_private_and_kept(tmp_path: Path) -> None:
    certificate, key = ensure_certificate(tmp_path / "tls", "mail.example.org", NOW)
    assert names(certificate) == ["mail.example.org", "localhost", "127.0.0.1", "::1"]
    for name in ("host-key.pem", "ca-key.pem"):
        assert (tmp_path / "tls" / name).stat().st_mode & 0o777 == 0o600
    before = certificate.read_bytes()
    assert ensure_certificate(tmp_path / "tls", "mail.example.org", NOW) == (certificate, key)
    assert certificate.read_bytes() == before


def test_another_host_name_or_a_near_end_makes_a_new_one_of_the_same_ca(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(tmp_path, "mail.example.org", NOW)
    authority = (tmp_path / "ca.pem").read_bytes()
    ensure_certificate(tmp_path, "mx.example.org", NOW)
    assert names(certificate)[0] == "mx.example.org"
    renewed = certificate.read_bytes()
    ensure_certificate(tmp_path, "mx.example.org", NOW + datetime.timedelta(days=HOST_DAYS - 5))
    assert certificate.read_bytes() != renewed
    assert (tmp_path / "ca.pem").read_bytes() == authority


def test_a_client_that_trusts_the_ca_accepts_the_host_strictly(tmp_path: Path) -> None:
    server = server_context(*ensure_certificate(tmp_path, "mail.example.org", NOW))
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ends = [ssl.MemoryBIO() for _ in range(4)]
    ours = server.wrap_bio(ends[0], ends[1], server_side=True)
    theirs = client.wrap_bio(ends[2], ends[3], server_hostname="mail.example.org")
    for _ in range(4):
        for side, source, target in ((theirs, ends[3], ends[0]), (ours, ends[1], ends[2])):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            target.write(source.read())
    assert theirs.version() == "TLSv1.3"

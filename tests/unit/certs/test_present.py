"""The certificate of the name that a client says; files that change while the server runs."""

import contextlib
import datetime
import logging
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from pillarbox.certs.present import Certificates
from pillarbox.config.schema import CertificateFiles, Config, Tls
from pillarbox.core.errors import Refused


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Files:
    """Certificate files of a CA of ours, and a configuration that names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")

    def write(
        self, label: str, *names: str, end: datetime.datetime | None = None
    ) -> tuple[Path, Path]:
        issued = self.ca.issue_cert(*names, not_after=end)
        certificate, key = self.folder / f"{label}.pem", self.folder / f"{label}-key.pem"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def config(self, *labels: str, client_ca: bool = False) -> Config:
        pairs = [
            (str(self.folder / f"{it}.pem"), str(self.folder / f"{it}-key.pem")) for it in labels
        ]
        tls = Tls(*pairs[0], [CertificateFiles(*pair) for pair in pairs[1:]])
        if client_ca:
            tls.client_ca = str(self.folder / "ca.pem")
        return Config("mail.example.org", str(self.folder / "data"), tls=tls)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.write("first", "mail.example.org")
    files.write("second", "*.example.net", "example.net")
    return files


def shown(
    context: ssl.SSLContext, name: str | None, mine: trustme.LeafCert | None = None
) -> tuple[list[str], ssl.SSLObject]:
    """The names in the certificate that a client gets, and the server's side."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if mine is not None:
        mine.configure_cert(client)
    ends = [ssl.MemoryBIO() for _ in range(4)]
    ours = context.wrap_bio(ends[0], ends[1], server_side=True)
    theirs = client.wrap_bio(ends[2], ends[3], server_hostname=name)
    for _ in range(4):
        for side, source, target in ((theirs, ends[3], ends[0]), (ours, ends[1], ends[2])):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            target.write(source.read())
    certificate = x509.load_der_x509_certificate(theirs.getpeercert(binary_form=True) or b"")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName), ours


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mail.example.org", "mail.example.org"),
        ("imap.example.net", "*.example.net"),
        ("EXAMPLE.net", "*.example.net"),
        ("unknown.example", "mail.example.org"),  # RFC 6066 §3: no reason to end the handshake
        (None, "mail.example.org"),
    ],
)
def test_a_client_gets_the_certificate_of_the_name_that_it_says(
    files: Files, name: str | None, expected: str
) -> None:
    certificates = Certificates(files.config("first", "second"), now)
    assert expected in shown(certificates.context(), name)[0]
    assert expected in shown(certificates.login_context(), name)[0]


def test_client_certificates_are_verified_under_every_name(files: Files) -> None:
    certificates = Certificates(files.config("first", "second", client_ca=True), now)
    mine = files.ca.issue_cert("alice@example.org")
    for name in ("mail.example.org", "imap.example.net"):
        _, ours = shown(certificates.login_context(), name, mine)
        assert ours.getpeercert(binary_form=True)
        assert ours.context.verify_mode is ssl.CERT_OPTIONAL
        assert not shown(certificates.context(), name, mine)[1].getpeercert(binary_form=True)


def test_new_files_are_taken_up_each_by_itself(files: Files) -> None:
    certificates = Certificates(files.config("first", "second"), now)
    before = certificates.context()
    certificates.look()
    assert certificates.context() is before, "nothing changed"
    files.write("second", "imap.example.com")
    certificates.look()
    assert certificates.context() is before
    assert shown(certificates.context(), "imap.example.com")[0] == ["imap.example.com"]
    assert shown(certificates.context(), "imap.example.net")[0] == ["mail.example.org"]
    files.write("first", "mx.example.org")
    certificates.look()
    assert shown(certificates.context(), None)[0] == ["mx.example.org"]
    assert shown(certificates.context(), "imap.example.com")[0] == ["imap.example.com"]


def test_a_pair_that_cannot_be_read_holds_up_none_behind_it(files: Files) -> None:
    certificates = Certificates(files.config("first", "second"), now)
    certificate, _ = files.write("first", "mx.example.org")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    odd = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09")  # its version
    certificate.write_text(ssl.DER_cert_to_PEM_cert(odd))
    files.write("second", "imap.example.com")
    certificates.look()
    assert shown(certificates.context(), None)[0] == ["mail.example.org"]
    assert shown(certificates.context(), "imap.example.com")[0] == ["imap.example.com"]


@pytest.mark.parametrize("name", ["first.pem", "first-key.pem", "ca.pem"])
def test_a_pipe_in_the_place_of_a_file_is_told_and_nobody_waits_for_it(
    files: Files, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    certificates = Certificates(files.config("first", client_ca=True), now)
    before = certificates.context()
    (files.folder / name).unlink()
    os.mkfifo(files.folder / name)
    certificates.look(at_once=True)
    (record,) = caplog.records
    assert f"{name}: it is no regular file, put one in its place" in record.getMessage()
    assert certificates.context() is before
    with pytest.raises(Refused, match="no regular file"):
        Certificates(files.config("first", client_ca=True), now)


def test_a_broken_new_pair_keeps_the_old_one_and_is_told_once(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(files.config("first", "second"), now)
    _, key = files.write("second", "imap.example.com")
    key.write_text("half a k")
    certificates.look()
    assert not caplog.records, "it may be changing just now"
    for _ in range(3):
        certificates.look()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the old one stays" in record.getMessage()
    assert "second-key.pem: it is not PEM" in record.getMessage()
    assert shown(certificates.context(), "imap.example.net")[0][0] == "*.example.net"
    key.unlink()
    for _ in range(3):
        certificates.look()
    assert "No such file" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2
    certificates.refresh()
    assert len(caplog.records) == 3, "who asks is told again"
    files.write("second", "imap.example.com")
    certificates.look()
    assert shown(certificates.context(), "imap.example.com")[0] == ["imap.example.com"]


def test_an_expired_new_pair_does_not_take_the_place_of_one_that_clients_still_trust(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    clock = now()
    certificates = Certificates(files.config("first", "second"), lambda: clock)
    files.write("second", "imap.example.com", end=clock - datetime.timedelta(days=1))
    for _ in range(3):
        certificates.look()
    (record,) = caplog.records
    assert "the old one stays" in record.getMessage()
    assert "second.pem: it expired on " in record.getMessage()
    assert shown(certificates.context(), "imap.example.net")[0][0] == "*.example.net"
    files.write("second", "imap.example.com")
    certificates.look()
    assert shown(certificates.context(), "imap.example.com")[0] == ["imap.example.com"]


def test_every_pair_that_is_no_good_is_named_at_the_start(files: Files) -> None:
    (files.folder / "first-key.pem").write_text("x")
    (files.folder / "second.pem").write_text("x")
    with pytest.raises(Refused) as caught:
        Certificates(files.config("first", "second"), now)
    assert caught.value.text.count("\n") == 1


def test_an_expired_certificate_is_a_warning(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    later = now() + datetime.timedelta(days=365 * 1100)
    Certificates(files.config("first"), lambda: later)
    assert any("it expired on" in record.getMessage() for record in caplog.records)

"""EXTERNAL: a client certificate says who logs in (RFC 4422 appendix A); none is asked for where mail comes in."""

import asyncio
import base64
import datetime
import imaplib
import poplib
import smtplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pillarbox.app.server import Server
from pillarbox.auth.certificate import addresses_of
from pillarbox.config.schema import Config, Listen, Security, Tls
from pillarbox.store.directory import Directory

SERVICES = ("smtp", "submissions", "imaps", "pop3s")


class Running:
    """A server that trusts one CA for its clients, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.others = trustme.CA(), trustme.CA()
        own_ca = folder / "clients.pem"
        self.ours.cert_pem.write_to_path(str(own_ca))
        config = Config(
            "mail.example.test",
            str(folder / "data"),
            listen=Listen(**{name: ["127.0.0.1:0"] for name in SERVICES}),
            tls=Tls(client_ca=str(own_ca)),
            security=Security(),
        )
        (folder / "data").mkdir()
        directory = Directory(folder / "data" / "directory.db", clock=lambda: 1.0)
        directory.add_domain("example.test")
        self.bob = directory.add_account("bob@example.test", "", "")
        directory.add_account("carol@example.test", "", "")
        self.directory = directory
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.server = Server(config, failure_delay_s=0, sends=False)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(30)
        self.ports = {name: found[0][1] for name, found in self.server.addresses.items()}

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(1), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.directory.close()

    def tls(self, *identities: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "data" / "tls" / "ca.pem"))
        if identities:
            path = self.folder / f"client{abs(hash((identities, ca)))}.pem"
            certificate = (ca or self.ours).issue_cert(*identities)
            certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
            context.load_cert_chain(path)
        return context

    def imap(self, *identities: str, ca: trustme.CA | None = None) -> imaplib.IMAP4_SSL:
        return imaplib.IMAP4_SSL(
            "localhost", self.ports["imaps"], ssl_context=self.tls(*identities, ca=ca)
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("external"))
    yield running
    running.close()


def external(client: imaplib.IMAP4, authzid: str = "") -> str:
    try:
        return client.authenticate("EXTERNAL", lambda _challenge: authzid.encode())[0]
    except imaplib.IMAP4.error:
        return "NO"


def test_a_certificate_is_enough_in_all_protocols(running: Running) -> None:
    imap = running.imap("bob@example.test")
    assert "AUTH=EXTERNAL" in imap.capabilities
    assert external(imap) == "OK"
    imap.logout()
    tls = running.tls("bob@example.test")
    smtp = smtplib.SMTP_SSL("localhost", running.ports["submissions"], context=tls)
    smtp.ehlo()
    assert smtp.docmd("AUTH EXTERNAL", "=")[0] == 235
    smtp.quit()
    pop3 = poplib.POP3_SSL("localhost", running.ports["pop3s"], context=tls)
    assert pop3._shortcmd("AUTH EXTERNAL =").startswith(b"+OK")
    pop3.quit()


@pytest.mark.parametrize(
    ("identities", "authzid", "answer"),
    [
        (["bob@example.test"], "bob@example.test", "OK"),
        (["bob@example.test"], "carol@example.test", "NO"),
        (["nobody@example.test"], "", "NO"),
        (["bob.example.test"], "", "NO"),  # a host is nobody's address
        (["bob@example.test", "carol@example.test"], "", "NO"),  # who of them?
        (["bob@example.test", "carol@example.test"], "carol@example.test", "OK"),
    ],
)
def test_only_whom_it_names(
    running: Running, identities: list[str], authzid: str, answer: str
) -> None:
    client = running.imap(*identities)
    assert external(client, authzid) == answer
    client.shutdown()


def test_without_a_certificate_it_is_not_offered(running: Running) -> None:
    client = running.imap()
    assert "AUTH=EXTERNAL" not in client.capabilities
    assert external(client) == "NO"
    client.shutdown()


def test_certificates_of_others_end_the_handshake(running: Running) -> None:
    with pytest.raises((ssl.SSLError, OSError, imaplib.IMAP4.error)):
        running.imap("bob@example.test", ca=running.others)


def test_other_servers_may_have_any_certificate(running: Running) -> None:
    client = smtplib.SMTP("127.0.0.1", running.ports["smtp"], "there.example")
    context = running.tls("mx.there.example", ca=running.others)
    context.check_hostname = False
    assert client.starttls(context=context)[0] == 220
    assert client.ehlo()[0] == 250
    client.quit()


def test_a_disabled_account_is_closed_to_its_certificate(running: Running) -> None:
    running.directory.set_enabled(running.bob.id, enabled=False)
    try:
        client = running.imap("bob@example.test")
        assert external(client) == "NO"
        client.shutdown()
    finally:
        running.directory.set_enabled(running.bob.id, enabled=True)


def test_what_is_no_certificate_names_nobody() -> None:
    assert addresses_of(b"") == []
    assert addresses_of(base64.b64decode("MAA=")) == []


def certificate(*names: x509.GeneralName) -> bytes:
    """DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    whom = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bob")])
    builder = x509.CertificateBuilder(whom, whom, key.public_key(), 5, now, now)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


BOB = x509.RFC822Name("bob@example.test")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x86\x08urn:odd:", b"\xa3\x08urn:odd:"),  # an x400Address
        (b"\x86\x08urn:odd:", b"\xa5\x08urn:odd:"),  # an ediPartyName
        (b"\x86\x08urn:odd:", b"\x8f\x08urn:odd:"),
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),  # the version
    ],
)
def test_what_is_odd_in_a_certificate_names_nobody(old: bytes, new: bytes) -> None:
    """RFC 5280 §4.2.1.6 has kinds of names that the library does not know."""
    good = certificate(x509.UniformResourceIdentifier("urn:odd:"), BOB)
    assert addresses_of(good) == ["bob@example.test"]
    assert good.count(old) == 1
    assert addresses_of(good.replace(old, new)) == []


@pytest.mark.parametrize("name", [" ob@example.test", "bob@example.te\nt", "bob.example.test"])
def test_what_is_no_address_in_a_certificate_names_nobody(name: str) -> None:
    """Nothing is trimmed."""
    good = certificate(BOB, x509.RFC822Name("carol@example.test"))
    assert addresses_of(good.replace(b"bob@example.test", name.encode())) == ["carol@example.test"]

"""`pillarbox tls status`: what each certificate is, and what is wrong with it."""

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from pillarbox.certs.private_ca import ensure_certificate
from pillarbox.cli import main

NOW = datetime.datetime.now(datetime.UTC)
CONFIG = """
hostname = "mail.example.org"
data_dir = "data"
[listen]
imaps = ["127.0.0.1:2993"]
smtp = ["127.0.0.1:2525"]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text(CONFIG)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pillarbox", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def configure(*labels: str) -> None:
    pairs = [f'certificate = "{it}.pem"{{}}key = "{it}-key.pem"' for it in labels]
    others = ", ".join(f"{{ {pair.format(', ')} }}" for pair in pairs[1:])
    first = pairs[0].format("\n")
    Path("pillarbox.toml").write_text(f"{CONFIG}[tls]\n{first}\ncertificates = [{others}]\n")


def write(label: str, *names: str, end: datetime.datetime | None = None) -> None:
    issued = trustme.CA().issue_cert(*names, not_after=end)
    issued.cert_chain_pems[0].write_to_path(f"{label}.pem")
    issued.private_key_pem.write_to_path(f"{label}-key.pem")


def problems(run: Run) -> list[list[str]]:
    code, out, _ = run("tls", "status", "--json")
    found = [each["problems"] for each in json.loads(out)]
    assert code == (1 if any(found) else 0)
    return found


def test_the_private_ca_is_told_once_it_is_there(run: Run) -> None:
    code, _, err = run("tls", "status")
    assert code == 1
    assert "the first start of the server makes one" in err
    assert not Path("data").exists()
    ensure_certificate(Path("data/tls"), "mail.example.org", NOW)
    code, out, _ = run("tls", "status")
    assert code == 0
    assert "names:   mail.example.org, localhost, 127.0.0.1, ::1" in out
    assert "issuer:  Pillarbox private CA" in out
    assert "in 396 days" in out or "in 397 days" in out
    assert "smtp 127.0.0.1:2525, imaps 127.0.0.1:2993; to clients who ask for another" in out


def test_every_certificate_has_a_row(run: Run) -> None:
    write("a", "mail.example.org")
    write("b", "*.example.net", end=NOW + datetime.timedelta(days=100, hours=1))
    configure("a", "b")
    code, out, _ = run("tls", "status", "--json")
    first, second = json.loads(out)
    assert code == 0
    assert second["names"] == ["*.example.net"]
    assert second["days_left"] == 100
    assert Path(second["key"]).name == "b-key.pem"
    assert (first["first"], second["first"]) == (True, False)
    assert first["listeners"] == second["listeners"]
    assert second["listeners"] == ["smtp 127.0.0.1:2525", "imaps 127.0.0.1:2993"]


def test_the_metrics_listener_shows_no_certificate(run: Run) -> None:
    """It is plain HTTP."""
    write("a", "mail.example.org")
    configure("a")
    file = Path("pillarbox.toml")
    file.write_text(file.read_text().replace("[tls]", 'metrics = ["127.0.0.1:9090"]\n[tls]'))
    (entry,) = json.loads(run("tls", "status", "--json")[1])
    assert entry["listeners"] == ["smtp 127.0.0.1:2525", "imaps 127.0.0.1:2993"]
    out = run("tls", "status")[1]
    assert "smtp 127.0.0.1:2525, imaps 127.0.0.1:2993; to clients" in out
    assert "9090" not in out


def test_what_is_wrong_is_named_and_the_exit_code_is_1(run: Run) -> None:
    write("a", "mx.example.org")
    write("b", "*.example.net", end=NOW - datetime.timedelta(days=3))
    write("c", "imap.example.com", end=NOW + datetime.timedelta(days=5, hours=1))
    write("d", "a.example.net")
    write("e", "imap.example.com")
    configure("a", "b", "c", "d", "e")
    Path("d-key.pem").write_bytes(Path("a-key.pem").read_bytes())
    first, second, third, fourth, fifth = problems(run)
    assert first == ["no certificate has the hostname mail.example.org"]
    assert second[0].startswith("it expired on")
    assert third == ["it expires in 5 days"]
    assert "is not that of the certificate" in fourth[0]
    assert fifth == ["no client gets it: those before it have its names"]
    assert run("tls", "status")[1].count("PROBLEM: ") == 5


def test_a_missing_intermediate_certificate_is_named_and_where_it_is(run: Run) -> None:
    """Clients that know the root only cannot go from the host's certificate to it."""
    authority = trustme.CA(organization_name="Intermediate One")
    issued = authority.issue_cert("mail.example.org")
    leaf = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    where = "http://ca.example/one.der"
    access = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(where)
    )
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = (
        x509.CertificateBuilder(extensions=list(leaf.extensions))
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        .sign(key, hashes.SHA256())
    )
    alone = signed.public_bytes(serialization.Encoding.PEM)
    Path("a.pem").write_bytes(alone)
    issued.private_key_pem.write_to_path("a-key.pem")
    configure("a")
    ((problem,),) = problems(run)
    assert "Intermediate One" in problem
    assert where in problem
    assert "many clients will not trust it" in problem
    Path("a.pem").write_bytes(alone + authority.cert_pem.bytes())
    assert problems(run) == [[]]


@pytest.fixture
def system_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The only CA that this system knows."""
    authority = trustme.CA(organization_name="Public Root")
    authority.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def notes(run: Run, chain: list[trustme.Blob], key: trustme.Blob) -> list[str]:
    """Of a certificate with this chain, with which nothing else is wrong."""
    Path("a.pem").write_bytes(b"".join(each.bytes() for each in chain))
    key.write_to_path("a-key.pem")
    configure("a")
    code, out, _ = run("tls", "status", "--json")
    (entry,) = json.loads(out)
    assert (code, entry["problems"]) == (0, [])
    found: list[str] = entry["notes"]
    assert run("tls", "status")[1].count("note: ") == len(found)
    return found


def test_a_chain_that_does_not_end_at_a_root_of_this_system_is_noted(
    run: Run, system_ca: trustme.CA
) -> None:
    below = system_ca.create_child_ca()
    issued = below.issue_cert("mail.example.org")
    leaf, key = issued.cert_chain_pems[0], issued.private_key_pem
    # RFC 8446 §4.4.2: the root may be left out, nothing else
    assert notes(run, [leaf, below.cert_pem], key) == []
    assert notes(run, [leaf, below.cert_pem, system_ca.cert_pem], key) == []
    (note,) = notes(run, [leaf], key)
    assert "its certificate is missing in the file, and many clients will not trust it" in note
    assert "if it is one of your own, only clients that were given it do" in note


def test_a_ca_of_ones_own_is_noted_and_no_fault(run: Run, system_ca: trustme.CA) -> None:
    own = trustme.CA(organization_name="House")
    issued = own.issue_cert("mail.example.org")
    leaf, key = issued.cert_chain_pems[0], issued.private_key_pem
    (note,) = notes(run, [leaf], key)
    assert "its chain ends below House, which this system does not know" in note
    (note,) = notes(run, [leaf, own.cert_pem], key)
    assert note.startswith("its chain ends at a root that this system does not know")


def test_a_certificate_that_signed_itself_is_noted(run: Run, system_ca: trustme.CA) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    names = x509.SubjectAlternativeName([x509.DNSName("mail.example.org")])
    signed = (
        x509.CertificateBuilder(name, name)
        .add_extension(names, critical=False)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = [trustme.Blob(signed.public_bytes(serialization.Encoding.PEM))]
    (note,) = notes(run, chain, trustme.Blob(pem))
    assert note == "it signed itself: only clients that were given it trust it"


def test_the_private_ca_needs_no_note(run: Run, system_ca: trustme.CA) -> None:
    ensure_certificate(Path("data/tls"), "mail.example.org", NOW)
    code, out, _ = run("tls", "status")
    assert code == 0
    assert "note: " not in out


def test_a_system_without_cas_notes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "none.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "none")
    issued = trustme.CA().issue_cert("mail.example.org")
    assert notes(run, [issued.cert_chain_pems[0]], issued.private_key_pem) == []


def test_config_check_notes_certificates_without_the_hostname(run: Run) -> None:
    write("a", "other.example.org")
    configure("a")
    code, out, _ = run("config", "check")
    assert (code, "a.pem: no certificate has the hostname mail.example.org" in out) == (0, True)
    write("a", "mail.example.org")
    assert "hostname" not in run("config", "check")[1]


def test_without_acme_there_is_nothing_to_renew(run: Run) -> None:
    code, _, err = run("tls", "renew")
    assert (code, err) == (1, "pillarbox: tls.acme is not on; set [tls] acme = true\n")


def test_config_check_warns_of_what_expired(run: Run) -> None:
    write("a", "mail.example.org", end=NOW - datetime.timedelta(days=3))
    configure("a")
    code, out, _ = run("config", "check")
    assert code == 0
    assert "Note: " in out
    assert "a.pem: it expired on " in out

"""The three conversations that the project began with, and what must not work before TLS."""

import imaplib
import poplib
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from replay import Line, OpenSsl, PlainSocket, Wire, read_transcript, replay

from pillarbox.testing import MailServer

FOLDER = Path(__file__).parent
PROTOCOLS = ("smtp", "imap", "pop3")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")


@pytest.fixture(scope="module")
def lab() -> Iterator[MailServer]:
    """Lab mode, with three messages for user@example.com."""
    with MailServer(
        {"user@example.com": "password", "recipient@example.com": "password"},
        hostname="mail.example.com",
        allow_cleartext_login=True,
        hierarchy_separator=".",
    ) as server:
        with smtplib.SMTP(server.host, server.ports["smtp"], timeout=10) as client:
            for _ in range(3):
                client.sendmail(
                    "sender@example.com",
                    "user@example.com",
                    "Subject: Hello\r\n\r\n...message content...\r\n",
                )
        yield server


def ends_reply(line: str) -> bool:
    """RFC 5321 §4.2: the last line of a reply has a space behind the code."""
    return line[3:4] == " "


def play(wire: Wire, lines: list[Line]) -> None:
    try:
        replay(lines, wire, ends_reply)
        assert wire.receive() == "", "the server closes after the last answer"
    finally:
        wire.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_seed_over_a_plain_socket(lab: MailServer, protocol: str) -> None:
    lines = read_transcript(FOLDER / f"{protocol}.txt")
    play(PlainSocket(lab.host, lab.ports[protocol]), lines)


@needs_openssl
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_the_seed_over_openssl(lab: MailServer, protocol: str) -> None:
    lines = read_transcript(FOLDER / f"{protocol}.txt")
    play(OpenSsl(lab.host, lab.ports[f"{protocol}s"], lab.ca_file), lines)


@needs_openssl
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_seed_over_openssl_with_starttls(lab: MailServer, protocol: str) -> None:
    """s_client reads the greeting itself."""
    lines = read_transcript(FOLDER / f"{protocol}.txt")[1:]
    lines = [
        line for line in lines if "STARTTLS" not in line.text
    ]  # RFC 3207 §4.2: not offered again
    wire = OpenSsl(lab.host, lab.ports[protocol], lab.ca_file, starttls=protocol)
    play(wire, lines)


def test_the_command_replays_files_and_tells_what_differs(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("S: +OK Pillarbox ready.\nC: NOOP\nS: +OK never said\n")
    for path, code, told in ((FOLDER / "pop3.txt", 0, "ok"), (wrong, 1, "never said")):
        command = [sys.executable, str(FOLDER / "replay.py"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, told in done.stdout) == (code, True), done.stdout + done.stderr


def test_the_mail_of_the_seed_arrives(lab: MailServer) -> None:
    play(PlainSocket(lab.host, lab.ports["smtp"]), read_transcript(FOLDER / "smtp.txt"))
    mail = lab.wait_for(to="recipient@example.com", subject="Test Email")
    assert mail.get_content() == "This is a test email.\n"
    assert mail["Return-Path"] == "<sender@example.com>"


def test_imap_offers_no_login_before_tls(mailserver: MailServer) -> None:
    client = imaplib.IMAP4(mailserver.host, mailserver.ports["imap"], timeout=10)
    assert "LOGINDISABLED" in client.capabilities
    assert not [word for word in client.capabilities if word.startswith("AUTH=")]
    with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
        client.login("alice@example.test", "pillarbox")
    client.starttls(mailserver.client_context())
    assert "LOGINDISABLED" not in client.capabilities
    assert "AUTH=PLAIN" in client.capabilities
    client.login("alice@example.test", "pillarbox")
    client.logout()


def test_pop3_offers_no_login_before_tls(mailserver: MailServer) -> None:
    client = poplib.POP3(mailserver.host, mailserver.ports["pop3"], timeout=10)
    assert not {"USER", "SASL"} & set(client.capa())
    with pytest.raises(poplib.error_proto):
        client.user("alice@example.test")
    client.quit()


@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_smtp_offers_no_login_before_tls(mailserver: MailServer, service: str) -> None:
    with smtplib.SMTP(mailserver.host, mailserver.ports[service], timeout=10) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        code, _ = client.docmd("AUTH", "PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABwaWxsYXJib3g=")
        assert code >= 500


def test_submission_needs_a_login(mailserver: MailServer) -> None:
    with smtplib.SMTP(mailserver.host, mailserver.ports["submission"], timeout=10) as client:
        client.ehlo()
        code, text = client.mail("alice@example.test")
        assert code == 530
        assert text.startswith(b"5.7.0 ")

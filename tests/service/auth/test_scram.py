"""SCRAM over SMTP, IMAP and POP3, under TLS 1.2 and 1.3, bound to the connection or not (RFC 5802, RFC 9266)."""

import base64
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Callable, Iterator

import pytest
from scram_client import ScramClient

from pillarbox.net.binding import channel_binding
from pillarbox.sasl.exchange import ChannelBinding
from pillarbox.testing import MailServer

USER, PASSWORD = "alice@example.test", "pillarbox"
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
KINDS = {V1_2: "tls-unique", V1_3: "tls-exporter"}

Say = Callable[[bytes | None], tuple[str, bytes]]
"""Sends a response (None: nothing); the answer is ("+", challenge), ("ok", b"") or ("no", text)."""


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


class Smtp:
    def __init__(self, server: MailServer, tls: ssl.SSLContext, *, implicit: bool) -> None:
        if implicit:
            self.client = smtplib.SMTP_SSL("localhost", server.ports["submissions"], context=tls)
        else:
            self.client = smtplib.SMTP("localhost", server.ports["submission"])
            self.client.starttls(context=tls)
        self.client.ehlo()
        self.sock = self.client.sock
        self.mechanisms = self.client.esmtp_features["auth"].split()

    def say(self, line: str) -> tuple[str, bytes]:
        code, text = self.client.docmd(line)
        return ("+" if code == 334 else "ok" if code == 235 else "no"), text

    def begin(self, mechanism: str, initial: str) -> tuple[str, bytes]:
        return self.say(f"AUTH {mechanism} {initial}")

    def close(self) -> None:
        self.client.close()


class Imap:
    def __init__(self, server: MailServer, tls: ssl.SSLContext, *, implicit: bool) -> None:
        if implicit:
            port = server.ports["imaps"]
            self.client = imaplib.IMAP4_SSL("localhost", port, ssl_context=tls)
        else:
            self.client = imaplib.IMAP4("localhost", server.ports["imap"])
            self.client.starttls(ssl_context=tls)
        self.sock = self.client.sock
        self.mechanisms = [
            name[5:] for name in self.client.capabilities if name.startswith("AUTH=")
        ]

    def say(self, line: str) -> tuple[str, bytes]:
        self.client.send(line.encode() + b"\r\n")
        answer = self.client.readline()
        if answer.startswith(b"+ "):
            return "+", answer[2:].strip()
        return ("ok" if answer.startswith(b"a OK") else "no"), answer

    def begin(self, mechanism: str, initial: str) -> tuple[str, bytes]:
        return self.say(f"a AUTHENTICATE {mechanism} {initial}")

    def close(self) -> None:
        self.client.shutdown()


class Pop3:
    def __init__(self, server: MailServer, tls: ssl.SSLContext, *, implicit: bool) -> None:
        self.client: poplib.POP3
        if implicit:
            self.client = poplib.POP3_SSL("localhost", server.ports["pop3s"], context=tls)
        else:
            self.client = poplib.POP3("localhost", server.ports["pop3"])
            self.client.stls(context=tls)
        self.sock = self.client.sock
        self.mechanisms = self.client.capa()["SASL"]

    def say(self, line: str) -> tuple[str, bytes]:
        try:
            answer = self.client._shortcmd(line)
        except poplib.error_proto as error:
            return "no", error.args[0]
        return ("+", answer[2:]) if answer.startswith(b"+ ") else ("ok", answer)

    def begin(self, mechanism: str, initial: str) -> tuple[str, bytes]:
        return self.say(f"AUTH {mechanism} {initial}")

    def close(self) -> None:
        self.client.close()


Client = Smtp | Imap | Pop3


def connect(
    server: MailServer, kind: type[Client], version: ssl.TLSVersion, *, implicit: bool = True
) -> Client:
    tls = ssl.create_default_context(cafile=str(server.ca_file))
    tls.minimum_version = tls.maximum_version = version
    return kind(server, tls, implicit=implicit)


def encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def log_in(client: Client, mechanism: str, scram: ScramClient) -> tuple[str, bytes]:
    """The server's last answer; its signature has been checked."""
    status, answer = client.begin(mechanism, encoded(scram.first()))
    if status != "+":
        return status, answer
    status, answer = client.say(encoded(scram.final(base64.b64decode(answer))))
    if status != "+":
        return status, answer
    scram.check(base64.b64decode(answer))
    return client.say("")


def binding_of(client: Client) -> ChannelBinding:
    binding = channel_binding(client.sock)  # type: ignore[arg-type]
    assert binding is not None
    return binding


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("version", [V1_2, V1_3])
@pytest.mark.parametrize("kind", [Smtp, Imap, Pop3])
def test_both_mechanisms_work_everywhere(
    server: MailServer, kind: type[Client], version: ssl.TLSVersion, implicit: bool
) -> None:
    for plus in (True, False):
        client = connect(server, kind, version, implicit=implicit)
        try:
            assert client.mechanisms[:2] == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
            binding = binding_of(client)
            assert binding.kind == KINDS[version]
            scram = ScramClient(USER, PASSWORD, binding if plus else None)
            mechanism = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
            assert log_in(client, mechanism, scram)[0] == "ok"
        finally:
            client.close()


@pytest.mark.parametrize("kind", [Smtp, Imap, Pop3])
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_login_cannot_be_passed_on_by_somebody_in_the_middle(
    server: MailServer, kind: type[Client], version: ssl.TLSVersion
) -> None:
    client = connect(server, kind, version)
    other = ChannelBinding(KINDS[version], b"\x01" * 32)
    status, _ = log_in(client, "SCRAM-SHA-256-PLUS", ScramClient(USER, PASSWORD, other))
    client.close()
    assert status == "no"


@pytest.mark.parametrize("kind", [Smtp, Imap, Pop3])
def test_a_downgrade_is_noticed(server: MailServer, kind: type[Client]) -> None:
    """RFC 5802 §6: a client that could bind and was not offered it."""
    client = connect(server, kind, V1_3)
    status, _ = log_in(client, "SCRAM-SHA-256", ScramClient(USER, PASSWORD, flag="y"))
    client.close()
    assert status == "no"


@pytest.mark.parametrize("kind", [Smtp, Imap, Pop3])
def test_without_a_binding_it_is_not_offered_and_fails(kind: type[Client], monkeypatch) -> None:
    monkeypatch.setattr("pillarbox.net.tls.channel_binding", lambda _connection: None)
    with MailServer() as server:
        client = connect(server, kind, V1_3)
        assert "SCRAM-SHA-256-PLUS" not in client.mechanisms
        binding = binding_of(client)
        status, _ = log_in(client, "SCRAM-SHA-256-PLUS", ScramClient(USER, PASSWORD, binding))
        assert status == "no"
        status, _ = log_in(client, "SCRAM-SHA-256", ScramClient(USER, PASSWORD, flag="y"))
        assert status == "ok"
        client.close()


def first_answer(server: MailServer, user: str) -> dict[str, str]:
    client = connect(server, Imap, V1_3)
    status, answer = client.begin("SCRAM-SHA-256", encoded(ScramClient(user, "x").first()))
    client.close()
    assert status == "+"
    return dict(part.split("=", 1) for part in base64.b64decode(answer).decode().split(","))


def test_unknown_users_get_a_stable_false_salt(server: MailServer) -> None:
    known, unknown, again = (
        first_answer(server, user) for user in (USER, "nobody@example.test", "NoBody@EXAMPLE.test")
    )
    assert unknown["s"] == again["s"] != known["s"]
    assert len(unknown["s"]) == len(known["s"])
    assert unknown["i"] == known["i"]
    # By the local part alone, users that exist have the same salt, so others must have, too.
    assert first_answer(server, "alice")["s"] == known["s"]
    assert first_answer(server, "nobody")["s"] == unknown["s"]


def test_unknown_user_and_wrong_password_get_the_same_text(server: MailServer) -> None:
    answers = set()
    for user in (USER, "nobody@example.test"):
        for mechanism in ("SCRAM-SHA-256", "PLAIN", "LOGIN"):
            client = connect(server, Imap, V1_3)
            if mechanism == "SCRAM-SHA-256":
                answers.add(log_in(client, mechanism, ScramClient(user, "wrong password")))
            else:
                message = f"\0{user}\0wrong password"
                if mechanism == "PLAIN":
                    answers.add(client.begin("PLAIN", encoded(message.encode())))
                else:
                    client.begin("LOGIN", encoded(user.encode()))
                    answers.add(client.say(encoded(b"wrong password")))
            client.close()
    assert len(answers) == 1

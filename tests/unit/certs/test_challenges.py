"""What a CA is answered that wants to see whether a name is ours."""

import contextlib
import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.ports import free_port

from pillarbox.certs.challenges import DnsAnswers, HttpAnswers, TlsAnswers, bind_all
from pillarbox.core.errors import Refused

AUTHORIZATION = "token.thumbprint"


@pytest.fixture
def http_answers() -> Iterator[HttpAnswers]:
    answers = HttpAnswers(bind_all(["127.0.0.1:0"]))
    answers.add("mail.example.org", "token", AUTHORIZATION)
    yield answers
    answers.close()


@pytest.fixture
def tls_answers() -> Iterator[TlsAnswers]:
    answers = TlsAnswers(bind_all(["127.0.0.1:0"]))
    answers.add("mail.example.org", "token", AUTHORIZATION)
    yield answers
    answers.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/.well-known/acme-challenge/token", 200),
        ("GET", "/.well-known/acme-challenge/other", 404),
        ("GET", "/.well-known/acme-challenge/../acme-challenge/token", 404),
        ("GET", "/", 404),
        ("POST", "/.well-known/acme-challenge/token", 404),
    ],
)
def test_http_01_answers_for_its_token_only(
    http_answers: HttpAnswers, method: str, path: str, status: int
) -> None:
    """RFC 8555 §8.3"""
    client = http.client.HTTPConnection("127.0.0.1", http_answers.ports[0], timeout=10)
    client.request(method, path)
    answer = client.getresponse()
    assert answer.status == status
    assert answer.read() == (AUTHORIZATION.encode() if status == 200 else b"")


@pytest.mark.parametrize("octets", [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 9000, b"GET / x"])
def test_nonsense_does_not_end_the_listener(http_answers: HttpAnswers, octets: bytes) -> None:
    with socket.create_connection(("127.0.0.1", http_answers.ports[0]), 10) as connection:
        connection.sendall(octets)
        with contextlib.suppress(OSError):  # it has had enough
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1000)
    client = http.client.HTTPConnection("127.0.0.1", http_answers.ports[0], timeout=10)
    client.request("GET", "/.well-known/acme-challenge/token")
    assert client.getresponse().read() == AUTHORIZATION.encode()


@pytest.mark.parametrize("kind", ["http", "tls"])
def test_silent_peers_do_not_keep_the_ca_out(
    kind: str, http_answers: HttpAnswers, tls_answers: TlsAnswers
) -> None:
    """Whoever came first goes, when there are more than are served at once."""
    port = (http_answers if kind == "http" else tls_answers).ports[0]
    silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(150)]
    for connection in silent[::2]:
        with contextlib.suppress(OSError):  # it is gone already
            connection.sendall(b"GET / HTTP/1.1\r\n" if kind == "http" else b"\x16\x03\x01")
    began = time.monotonic()
    if kind == "http":
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/.well-known/acme-challenge/token")
        assert client.getresponse().read() == AUTHORIZATION.encode()
    else:
        assert look(port, "mail.example.org", "acme-tls/1")[1] == "acme-tls/1"
    assert time.monotonic() - began < 5
    for connection in silent:
        connection.close()


def look(port: int, name: str, protocol: str) -> tuple[bytes, str | None]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as connection,
        context.wrap_socket(connection, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b"", tls.selected_alpn_protocol()


def test_tls_alpn_01_shows_the_digest_for_the_name(tls_answers: TlsAnswers) -> None:
    """RFC 8737 §3"""
    der, protocol = look(tls_answers.ports[0], "mail.example.org", "acme-tls/1")
    assert protocol == "acme-tls/1"
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [each.value for each in names] == ["mail.example.org"]
    oid = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
    found = certificate.extensions.get_extension_for_oid(oid)
    assert found.critical
    assert (
        found.value.public_bytes() == b"\x04\x20" + hashlib.sha256(AUTHORIZATION.encode()).digest()
    )
    with pytest.raises(ssl.SSLError):
        look(tls_answers.ports[0], "other.example.org", "acme-tls/1")


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=address):
            bind_all([address])


def test_dns_01_calls_the_hook_and_removes_what_it_added(tmp_path: Path) -> None:
    """RFC 8555 §8.4"""
    hook = tmp_path / "my hook"
    hook.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/log"\n')
    hook.chmod(0o700)
    answers = DnsAnswers(f'"{hook}" --zone example.org', 0)
    answers.add("example.org", "token", "a")
    answers.add("example.org", "token", "b")
    answers.settle()
    answers.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == [
        "--zone example.org add _acme-challenge.example.org",
        "--zone example.org add _acme-challenge.example.org",
        "--zone example.org remove _acme-challenge.example.org",
        "--zone example.org remove _acme-challenge.example.org",
    ]
    # base64url of SHA-256, without padding
    assert {line.rpartition(" ")[2] for line in lines} == {
        "ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs",
        "PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0",
    }


def test_a_hook_that_fails_is_quoted(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\necho first\necho no such zone >&2\nexit 3\n")
    hook.chmod(0o700)
    with pytest.raises(Refused, match="ended with code 3 and said: no such zone"):
        DnsAnswers(str(hook), 0).add("example.org", "token", "a")
    with pytest.raises(Refused, match="cannot be run"):
        DnsAnswers(str(tmp_path / "none"), 0).add("example.org", "token", "a")


def test_a_socket_listens_during_an_order_only_and_serves_for_the_next_one() -> None:
    port = free_port()
    (held,) = bind_all([f"127.0.0.1:{port}"])
    for token in ("one", "two"):
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)
        answers = HttpAnswers([held.dup()])  # as a program that was given it
        answers.add("mail.example.org", token, AUTHORIZATION)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", f"/.well-known/acme-challenge/{token}")
        assert client.getresponse().status == 200
        answers.close()
    held.close()

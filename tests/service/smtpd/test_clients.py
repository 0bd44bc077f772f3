"""Clients that speak for others, speak too early, or only make errors."""

import re
import select
import socket
import time
from dataclasses import replace

import pytest

from pillarbox.core.networks import parse_networks
from pillarbox.smtp.options import Limits
from pillarbox.smtpd.spoken_for import SpokenFor

OCTETS = b"From: s@example.net\r\nSubject: x\r\n\r\nHello\r\n"
LOCAL = parse_networks(["127.0.0.1"])


@pytest.fixture
def proxy(server, connect):
    server.context.xclient_from = LOCAL
    return connect(server)


def received(server) -> bytes:
    (stored,) = server.inbox("bob")
    field = re.search(rb"Received: (.*?)\r\n\S", stored, re.DOTALL)
    assert field
    return field[1]


def speak_for(client, attributes: str) -> None:
    assert client.ask(f"XCLIENT {attributes}").startswith("220 ")
    client.ask("EHLO proxy.example")


# XCLIENT


def test_the_trace_shows_for_whom_a_proxy_speaks(server, proxy) -> None:
    speak_for(proxy, "ADDR=IPV6:2001:db8::1 PORT=1234 HELO=spike.example PROTO=SMTP")
    assert proxy.send(OCTETS).startswith("250 ")
    assert received(server).startswith(b"from spike.example ([IPv6:2001:db8::1])\r\n")
    assert b"with SMTP id" in received(server)


def test_what_is_unavailable_is_not_made_up(server, proxy) -> None:
    speak_for(proxy, "ADDR=[Unavailable] HELO=[UNAVAILABLE] NAME=[TEMPUNAVAIL] PORT=[UNAVAILABLE]")
    assert proxy.send(OCTETS).startswith("250 ")
    assert received(server).startswith(b"from proxy.example\r\n")


def test_trust_is_in_who_is_spoken_for(server, proxy) -> None:
    server.context.trusted = LOCAL
    speak_for(proxy, "ADDR=127.0.0.1")
    proxy.ask("MAIL FROM:<s@example.net>")
    assert proxy.ask("RCPT TO:<x@far.test>").startswith("250 ")
    proxy.ask("RSET")
    speak_for(proxy, "ADDR=192.0.2.1")
    proxy.ask("MAIL FROM:<s@example.net>")
    assert proxy.ask("RCPT TO:<x@far.test>").startswith("550 5.7.1")
    proxy.ask("RSET")
    speak_for(proxy, "ADDR=127.0.0.1")  # it may still speak for others: its own address counts
    proxy.ask("MAIL FROM:<s@example.net>")
    assert proxy.ask("RCPT TO:<x@far.test>").startswith("250 ")


def test_a_login_that_the_proxy_vouches_for_counts(server, proxy) -> None:
    speak_for(proxy, "LOGIN=alice@example.test")
    assert proxy.ask("MAIL FROM:<bob@example.test>").startswith("550 5.7.1")
    assert proxy.ask("MAIL FROM:<alice@example.test>").startswith("250 ")
    proxy.ask("RSET")
    for nobody in ("LOGIN=[UNAVAILABLE]", "LOGIN=nobody@example.test"):
        speak_for(proxy, nobody)
        assert proxy.ask("MAIL FROM:<bob@example.test>").startswith("250 ")
        assert proxy.ask("RCPT TO:<x@far.test>").startswith("550 5.7.1")
        proxy.ask("RSET")


def test_others_do_not_even_hear_of_it(server, connect) -> None:
    client = connect(server)
    assert "XCLIENT" not in client.ask("EHLO x")
    assert "XCLIENT" not in client.ask("HELP")
    assert client.ask("XCLIENT ADDR=127.0.0.1").startswith("550 5.7.0")


@pytest.mark.parametrize(
    "attributes",
    [
        {"ADDR": "2001:db8::1"},
        {"ADDR": "IPV6:192.0.2.1"},
        {"ADDR": "host.example"},
        {"PORT": "-1"},
        {"PORT": "65536"},
        {"PROTO": "LMTP"},
        {"DESTADDR": "x"},
    ],
)
def test_attributes_that_make_no_sense_are_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="="):
        SpokenFor().changed(attributes)


def test_attributes_of_several_commands_add_up() -> None:
    spoken = SpokenFor().changed({"ADDR": "192.0.2.1"}).changed({"PORT": "7", "DESTPORT": "25"})
    assert (spoken.client, spoken.server) == (("192.0.2.1", 7), ("", 25))


# Before the greeting


def raw(server, service: str = "smtp") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.ports[service]), timeout=10)


def test_who_speaks_before_the_greeting_is_sent_away(server) -> None:
    server.context.greeting_delay_s = 0.2
    with raw(server) as client:
        client.sendall(b"EHLO spam.example\r\nMAIL FROM:<s@x>\r\n")
        answer = client.makefile("rb").read()
    assert answer == b"554 5.5.1 You spoke before the greeting, closing transmission channel\r\n"


def test_who_waits_is_greeted_a_little_later(server) -> None:
    server.context.greeting_delay_s = 0.2
    begin = time.monotonic()
    with raw(server) as client:
        file = client.makefile("rb")
        assert file.readline().startswith(b"220 ")
        assert time.monotonic() - begin >= 0.2
        client.sendall(b"NOOP\r\n")
        assert file.readline() == b"250 2.0.0 Ok\r\n"


def test_trusted_clients_and_other_ports_do_not_wait(server) -> None:
    server.context.greeting_delay_s = 5.0
    begin = time.monotonic()
    for service in ("submission", "lmtp"):
        with raw(server, service) as client:
            assert client.makefile("rb").readline().startswith(b"220 ")
    server.context.trusted = LOCAL
    with raw(server) as client:
        assert client.makefile("rb").readline().startswith(b"220 ")
    assert time.monotonic() - begin < 4


def test_who_leaves_before_the_greeting_leaves_nothing_behind(server) -> None:
    server.context.greeting_delay_s = 0.2
    with raw(server) as client:
        client.sendall(b"x")
    with raw(server) as client:
        client.shutdown(socket.SHUT_WR)
        client.makefile("rb").read()
    time.sleep(0.4)


def test_without_a_domain_mail_goes_on_only_where_a_host_is_named_for_it(
    server, connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder may be an empty one, for its disk is not mounted: the DNS would lead back here."""
    monkeypatch.setattr(server.store.directory, "has_domains", lambda: False)
    server.context.trusted = LOCAL
    server.context.is_routed = lambda domain: domain == "routed.example"
    client = connect(server)
    assert client.ask("EHLO app").startswith("250")
    assert client.ask("MAIL FROM:<app@example.org>").startswith("250")
    assert client.ask("RCPT TO:<alice@example.org>").startswith("451 4.3.5")
    assert client.ask("RCPT TO:<alice@routed.example>").startswith("250")


# Errors


def test_answers_to_many_errors_come_more_and_more_slowly(server, connect) -> None:
    limits = Limits(errors_at_once=2, error_delay_s=0.1, longest_delay_s=0.25)
    server.context.options["smtp"] = replace(server.context.options["smtp"], limits=limits)
    client = connect(server)
    took = []
    for number in range(6):
        begin = time.monotonic()
        assert client.ask("BAD" if number % 2 else "RCPT TO:<x>").startswith("50")
        took.append(time.monotonic() - begin)
    for seconds, least in zip(took, (0, 0, 0.1, 0.2, 0.25, 0.25), strict=True):
        assert least <= seconds
    assert client.send(OCTETS).startswith("250 ")


def test_others_do_not_wait_for_who_makes_errors(server, connect) -> None:
    limits = Limits(errors_at_once=0, error_delay_s=3.0)
    server.context.options["smtp"] = replace(server.context.options["smtp"], limits=limits)
    slow, other = connect(server), connect(server)
    slow.socket.sendall(b"BAD\r\nNOOP\r\n")
    for _ in range(5):
        assert other.ask("NOOP").startswith("250 ")
    assert select.select([slow.socket], [], [], 0)[0] == []
    assert slow.reply().startswith("500 5.5.2")
    assert slow.reply() == "250 2.0.0 Ok"

"""LMTP: mail for accounts here, from a mail server beside us (RFC 2033)."""

import asyncio

import pytest

from pillarbox.core.address import Address
from pillarbox.core.errors import Unavailable
from pillarbox.core.networks import parse_networks
from pillarbox.net.tls import client_context
from pillarbox.outbound.session import Host, HostSession, TlsContexts, open_session
from pillarbox.smtp.client_events import ClientOptions, Envelope, Kind, Recipient, TlsMode

OCTETS = b"From: s@example.net\r\nSubject: x\r\n\r\nHello\r\n"


def recipients(client, *addresses: str) -> list[str]:
    assert client.ask("MAIL FROM:<s@example.net>").startswith("250 ")
    return [client.ask(f"RCPT TO:<{address}>")[:9] for address in addresses]


def test_each_accepted_recipient_gets_a_reply_and_each_account_one_copy(server, connect) -> None:
    client = connect(server, "lmtp")
    assert recipients(
        client, "bob@example.test", "no@example.test", "carol@example.test", "BOB@example.test"
    ) == ["250 2.1.5", "550 5.1.1", "250 2.1.5", "250 2.1.5"]
    client.ask("DATA")
    first = client.ask(OCTETS + b".")
    assert first.startswith("250 2.0.0 Ok: queued as ")
    assert [client.reply(), client.reply()] == [first, first]
    assert client.ask("NOOP") == "250 2.0.0 Ok"
    (stored,) = server.inbox("bob")
    assert b"\r\n\twith LMTP id " in stored
    assert len(server.inbox("carol")) == 1


def test_our_own_client_delivers_by_lmtp(server) -> None:
    async def send() -> list[Kind]:
        host = Host("mail.example.test", "127.0.0.1", server.ports["lmtp"])
        options = ClientOptions("client.example", lmtp=True, tls=TlsMode.NEVER)
        contexts = TlsContexts(client_context(verified=True), client_context(verified=False))
        session = await open_session(host, options, contexts)
        assert isinstance(session, HostSession)
        to = [
            Recipient(Address(name, "example.test"), notify="NEVER")
            for name in ("bob", "nobody", "carol")
        ]
        envelope = Envelope(Address("s", "example.net"), to, len(OCTETS))

        async def at_once() -> bool:
            return True

        outcomes = await session.send(envelope, OCTETS, at_once)
        await session.close()
        return [outcome.kind for outcome in outcomes]

    assert asyncio.run(send()) == [Kind.DELIVERED, Kind.PERMANENT, Kind.DELIVERED]
    assert len(server.inbox("bob")) == len(server.inbox("carol")) == 1


def test_it_never_relays_whoever_asks(server, connect) -> None:
    server.context.trusted = parse_networks(["127.0.0.1"])
    server.context.takes_for = lambda domain: True
    assert recipients(connect(server, "lmtp"), "x@far.test") == ["550 5.7.1"]
    server.store.directory.add_alias("fwd@example.test", "x@far.test")
    client = connect(server, "lmtp")
    assert recipients(client, "fwd@example.test") == [
        "250 2.1.5"
    ]  # an alias of ours may lead there


def test_a_failure_is_said_for_each(server, connect, monkeypatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("busy")

    client = connect(server, "lmtp")
    monkeypatch.setattr("pillarbox.smtpd.acceptance.deliver", refuse)
    assert recipients(client, "bob@example.test", "carol@example.test") == ["250 2.1.5"] * 2
    client.ask("DATA")
    assert client.ask(OCTETS + b".").startswith("451 4.3.0")
    assert client.reply().startswith("451 4.3.0")
    assert client.ask("NOOP") == "250 2.0.0 Ok"


def test_chunks_get_one_reply_and_the_last_one_for_each(server, connect) -> None:
    """RFC 2033 §4.3"""
    client = connect(server, "lmtp")
    recipients(client, "bob@example.test", "carol@example.test")
    client.socket.sendall(b"BDAT %d\r\n%b" % (len(OCTETS), OCTETS))
    assert client.reply().startswith("250 ")
    assert client.ask("BDAT 0 LAST").startswith("250 2.0.0 Ok: queued")
    assert client.reply().startswith("250 2.0.0 Ok: queued")
    assert recipients(client, "nobody@example.test") == ["550 5.1.1"]
    assert client.ask(b"BDAT 3 LAST\r\nabcNOOP") == "250 2.0.0 Ok"  # none accepted: no reply at all


@pytest.mark.parametrize(
    ("chunks", "replies"),
    [
        (b"BDAT 40000001 LAST\r\n" + b"x" * 40_000_001, ["552"] * 2),
        (
            b"BDAT 40000001\r\n" + b"x" * 40_000_001 + b"BDAT 3 LAST\r\nabc",
            ["552", "503", "503"],
        ),
    ],
    ids=["last", "pipelined"],
)
def test_refused_chunks_are_counted_in_the_same_way(server, connect, chunks, replies) -> None:
    client = connect(server, "lmtp")
    recipients(client, "bob@example.test", "carol@example.test")
    client.socket.sendall(chunks + b"NOOP\r\n")
    assert [client.reply()[:3] for _ in replies] == replies
    assert client.reply() == "250 2.0.0 Ok"

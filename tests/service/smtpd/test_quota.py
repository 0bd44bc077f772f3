"""Full mailboxes: 552 5.2.2 at RCPT or at the end of the message (RFC 9208, RFC 5321 §3.3, RFC 3463 X.2.2)."""

import logging

import pytest

MESSAGE = b"From: s@example.net\r\nSubject: x\r\n\r\n" + b"0123456789\r\n" * 100


def limit(server, name: str, octets: int | None = None, messages: int | None = None) -> None:
    async def work() -> None:
        server.store.directory.quotas.set(server.accounts[name], octets, messages)

    server.call(work)


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_a_full_mailbox_is_refused_at_rcpt(server, connect, service: str) -> None:
    limit(server, "bob", messages=1)
    client = connect(server, service)
    assert client.send(MESSAGE).startswith("250 ")
    assert client.ask("MAIL FROM:<s@example.net>").startswith("250 ")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("552 5.2.2 ")
    assert client.ask("RCPT TO:<bob+tag@example.test>").startswith("552 5.2.2 ")
    assert client.ask("RCPT TO:<alice@example.test>").startswith("250 ")
    assert len(server.inbox("bob")) == 1


def test_a_recipient_without_room_is_in_the_log(server, connect, caplog) -> None:
    caplog.set_level(logging.INFO, "pillarbox.smtpd")
    limit(server, "bob", octets=4000)
    client = connect(server)
    client.ask("MAIL FROM:<s@example.net> SIZE=4001")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("552 5.2.2 ")
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.endswith(" 127.0.0.1: refused recipient=<bob@example.test> code=552: Mailbox full")


def test_a_declared_size_that_does_not_fit_is_refused_at_rcpt(server, connect) -> None:
    limit(server, "bob", octets=4000)
    client = connect(server)
    assert client.ask("MAIL FROM:<s@example.net> SIZE=4001").startswith("250 ")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("552 5.2.2 ")
    assert client.ask("RCPT TO:<alice@example.test>").startswith("250 ")
    assert client.ask("RSET").startswith("250 ")
    assert client.ask("MAIL FROM:<s@example.net> SIZE=3000").startswith("250 ")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("250 ")


def test_a_message_that_turns_out_too_large_is_refused_at_its_end(server, connect) -> None:
    limit(server, "bob", octets=1024)
    client = connect(server)
    assert client.send(MESSAGE).startswith("552 5.2.2 ")
    assert server.inbox("bob") == []
    # together with somebody who has room, everybody gets it
    assert (
        client.send(MESSAGE, "s@example.net", "bob@example.test", "alice@example.test")[:4]
        == "250 "
    )
    assert len(server.inbox("bob")) == len(server.inbox("alice")) == 1


def test_a_list_does_not_fail_for_one_full_member(server, connect) -> None:
    limit(server, "bob", octets=1024)

    async def work() -> None:
        server.store.directory.add_alias("list@example.test", "bob@example.test")
        server.store.directory.add_alias("list@example.test", "carol@example.test")
        server.store.directory.add_alias("one@example.test", "bob@example.test")

    server.call(work)
    client = connect(server)
    assert client.send(MESSAGE, "s@example.net", "list@example.test").startswith("250 ")
    client.ask("MAIL FROM:<s@example.net>")
    assert client.ask("RCPT TO:<one@example.test>").startswith("552 5.2.2 ")


def test_users_of_this_server_are_told_alike(lab, connect) -> None:
    limit(lab, "bob", messages=1)
    assert connect(lab).send(MESSAGE).startswith("250 ")
    client = connect(lab, "submission")
    assert client.login().startswith("235 ")
    client.ask("MAIL FROM:<alice@example.test>")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("552 5.2.2 ")


def test_the_default_of_a_domain_counts(server, connect) -> None:
    async def work() -> None:
        server.store.directory.quotas.set_domain("example.test", 0, 1)
        server.store.directory.quotas.set(server.accounts["carol"], 0, 0)

    server.call(work)
    client = connect(server)
    assert (
        client.send(MESSAGE, "s@example.net", "bob@example.test", "carol@example.test")[:4]
        == "250 "
    )
    client.ask("MAIL FROM:<s@example.net>")
    assert client.ask("RCPT TO:<bob@example.test>").startswith("552 5.2.2 ")
    assert client.ask("RCPT TO:<carol@example.test>").startswith("250 ")
    assert server.store.grown == {server.accounts["bob"], server.accounts["carol"]}

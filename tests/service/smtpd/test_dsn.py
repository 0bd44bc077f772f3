"""Delivery status notifications on request: who is told what, here and by the next host (RFC 3461)."""

import email
import fcntl
from email.message import Message

import pytest

from pillarbox.core.errors import Unavailable
from pillarbox.store.accounts import account_path
from pillarbox.store.outgoing_row import Selection

OCTETS = b"From: alice@example.test\r\nSubject: x\r\n\r\nHello\r\n"


def transact(client, *rcpts: str, sender: str = "alice@example.test", mail: str = "") -> str:
    assert client.ask(f"MAIL FROM:<{sender}>{mail}").startswith("250 ")
    for rcpt in rcpts:
        assert client.ask(f"RCPT TO:{rcpt}") == "250 2.1.5 Ok"
    assert client.ask("DATA").startswith("354 ")
    reply = client.ask(OCTETS + b".")
    assert reply.startswith("250 "), reply
    return reply.rpartition(" ")[2]


def status_of(report: bytes) -> list[Message]:
    """The blocks of message/delivery-status."""
    message = email.message_from_bytes(report)
    assert message.get_content_type() == "multipart/report"
    return message.get_payload(1).get_payload()


def rows(server):
    return {row.recipient: row for row in server.queue.selected.rows(Selection())}


def test_delivery_is_told_to_who_asked_before_the_250(server, connect) -> None:
    client = connect(server)
    transact(client, "<bob@example.test> NOTIFY=SUCCESS,FAILURE", mail=" ENVID=E+2B1 RET=FULL")
    (report,) = server.inbox("alice")
    assert report.startswith(b"Return-Path: <>\r\n")
    assert b"Hello" not in report  # RFC 3461 §6.2: only the header where nothing failed
    of_message, of_bob = status_of(report)
    assert of_message["Original-Envelope-Id"] == "E+1"
    assert of_bob["Final-Recipient"] == "rfc822;bob@example.test"
    assert (of_bob["Action"], of_bob["Status"]) == ("delivered", "2.0.0")
    assert of_bob["Original-Recipient"] is None  # RFC 3461 §6.3 d


@pytest.mark.parametrize("wish", ["", " NOTIFY=NEVER", " NOTIFY=FAILURE,DELAY"])
def test_delivery_is_told_to_nobody_else(server, connect, wish: str) -> None:
    transact(connect(server), f"<bob@example.test>{wish}")
    assert server.inbox("alice") == []


def test_the_null_path_is_told_nothing(server, connect) -> None:
    transact(connect(server), "<bob@example.test> NOTIFY=SUCCESS", sender="")
    assert server.queue.count() == (0, 0)
    assert len(server.inbox("bob")) == 1


def test_a_sender_elsewhere_is_told_by_the_queue(server, connect) -> None:
    client = connect(server)
    transact(client, "<bob@example.test> NOTIFY=SUCCESS ORCPT=rfc822;B+2Bb@x", sender="s@far.test")
    (row,) = rows(server).values()
    assert (row.reverse_path, row.recipient, row.notify, row.ret) == ("", "s@far.test", "", "")
    _, of_bob = status_of(server.queue.octets(row.message))
    assert of_bob["Original-Recipient"] == "rfc822;B+b@x"


def test_one_report_names_all_that_asked_and_no_others(server, connect) -> None:
    transact(
        connect(server),
        "<bob@example.test> NOTIFY=SUCCESS",
        "<carol@example.test>",
        "<Bob+tag@example.test> NOTIFY=SUCCESS",
    )
    (report,) = server.inbox("alice")
    told = [block["Final-Recipient"] for block in status_of(report)[1:]]
    assert told == ["rfc822;bob@example.test", "rfc822;Bob+tag@example.test"]


def test_an_alias_with_one_target_keeps_wishes(server, connect) -> None:
    """RFC 3461 §5.2.7.2"""
    server.store.directory.add_alias("one@example.test", "friend@far.test")
    server.store.directory.add_alias("home@example.test", "bob@example.test")
    transact(
        connect(server),
        "<One@example.test> NOTIFY=SUCCESS",
        "<home@example.test> NOTIFY=SUCCESS",
        mail=" RET=HDRS ENVID=E1",
    )
    row = rows(server)["friend@far.test"]
    assert (row.notify, row.orcpt) == ("SUCCESS", "rfc822;One@example.test")
    assert (row.ret, row.envid) == ("HDRS", "E1")
    (report,) = server.inbox("alice")
    assert [block["Final-Recipient"] for block in status_of(report)[1:]] == [
        "rfc822;home@example.test"
    ]


def test_an_alias_with_several_targets_is_told_as_expanded(server, connect) -> None:
    """RFC 3461 §5.2.7.3 c"""
    for target in ("a@far.test", "b@far.test", "bob@example.test"):
        server.store.directory.add_alias("all@example.test", target)
    transact(connect(server), "<all@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ALL@x")
    found = rows(server)
    for target in ("a@far.test", "b@far.test"):
        assert (found[target].notify, found[target].orcpt) == ("FAILURE", "rfc822;ALL@x")
    (report,) = server.inbox("alice")
    (block,) = status_of(report)[1:]
    assert (block["Action"], block["Final-Recipient"]) == ("expanded", "rfc822;all@example.test")


def test_without_success_an_alias_with_several_targets_is_not_told(server, connect) -> None:
    for target in ("a@far.test", "bob@example.test"):
        server.store.directory.add_alias("all@example.test", target)
    transact(connect(server), "<all@example.test> NOTIFY=NEVER")
    assert server.inbox("alice") == []
    assert rows(server)["a@far.test"].notify == "NEVER"


def test_wishes_of_a_submitter_go_with_the_mail_unchanged(server, connect) -> None:
    """RFC 3461 §5.2.1: no ORCPT is added where mail goes as it came."""
    client = connect(server, "submissions")
    client.login()
    transact(
        client,
        "<Friend@far.test> NOTIFY=Delay,SUCCESS ORCPT=rfc822;Friend@Far.test",
        "<other@far.test>",
        mail=" ENVID=x RET=Full",
    )
    found = rows(server)
    friend, other = found["Friend@far.test"], found["other@far.test"]
    assert (friend.notify, friend.orcpt) == ("Delay,SUCCESS", "rfc822;Friend@Far.test")
    assert (other.notify, other.orcpt, other.envid, other.ret) == ("", "", "x", "Full")


def test_a_report_that_cannot_be_made_does_not_take_the_250_back(
    server, connect, monkeypatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("no room")

    monkeypatch.setattr(type(server.notices), "tell", refuse)
    transact(connect(server), "<bob@example.test> NOTIFY=SUCCESS")
    assert len(server.inbox("bob")) == 1


def test_a_report_to_an_account_that_is_busy_waits_and_the_250_does_not(server, connect) -> None:
    client = connect(server)
    client.send(OCTETS, "s@example.net", "alice@example.test")
    path = account_path(server.folder / "accounts", server.accounts["alice"])
    with path.with_suffix(".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        transact(client, "<bob@example.test> NOTIFY=SUCCESS")
        assert len(server.inbox("bob")) == 1
    assert len(server.inbox("alice")) == 2

"""Senders that nobody could answer (RFC 7505 §4.2)."""

import asyncio

import pytest

from pillarbox.core.networks import parse_networks
from pillarbox.dns.query import Answer, Mx, Status
from pillarbox.smtpd import sender_domain as module
from pillarbox.smtpd.sender_domain import SenderDomains


class Zone:
    """A resolver with a zone, that counts questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def run(self, asking) -> Answer:
        (query,) = next(asking)
        self.asked.append(query.name)
        await asyncio.sleep(0)
        if query.name == "silent.example":
            await asyncio.sleep(3600)
        answer = {
            "null.example": Answer(Status.OK, "null.example", (Mx(0, ""),), 300),
            "two.example": Answer(Status.OK, "two.example", (Mx(0, ""), Mx(10, "a.b")), 300),
            "mx.example": Answer(Status.OK, "mx.example", (Mx(10, "a.b"),), 300),
            "xn--bcher-kva.example": Answer(Status.OK, "", (Mx(5, ""),), 300),
        }.get(query.name, Answer(Status.FAILED, query.name))
        try:
            asking.send([answer])
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it asks once")


@pytest.fixture
def zone(server) -> Zone:
    made = Zone()
    server.context.sender_domains = SenderDomains(made.run)
    return made


@pytest.mark.parametrize(
    ("sender", "code"),
    [
        ("a@null.example", "550 5.7.27"),
        ("a@NULL.Example", "550 5.7.27"),
        ("a@two.example", "250 2.1.0"),
        ("a@mx.example", "250 2.1.0"),
        ("a@broken.example", "250 2.1.0"),
        ("a@[192.0.2.1]", "250 2.1.0"),
        ("", "250 2.1.0"),
        ("bob@example.test", "250 2.1.0"),
    ],
)
def test_a_sender_whose_domain_takes_no_mail_is_refused(
    server, connect, zone: Zone, sender: str, code: str
) -> None:
    assert connect(server).ask(f"MAIL FROM:<{sender}>").startswith(code)
    assert len(zone.asked) == (sender.partition("@")[2] not in ("", "[192.0.2.1]", "example.test"))


def test_answers_are_kept_also_that_there_was_none(server, connect, zone: Zone) -> None:
    client = connect(server)
    for sender in ("a@null.example", "b@null.example", "a@broken.example", "b@broken.example"):
        client.ask(f"MAIL FROM:<{sender}>")
        client.ask("RSET")
    assert zone.asked == ["null.example", "broken.example"]


def test_a_dns_that_does_not_answer_refuses_nothing(
    server, connect, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.05)
    client = connect(server)
    assert client.ask("MAIL FROM:<a@silent.example>").startswith("250 ")
    client.ask("RSET")
    assert client.ask("MAIL FROM:<b@silent.example>").startswith("250 ")
    assert zone.asked == ["silent.example"]


def test_trusted_hosts_and_users_are_not_asked_about(server, connect, zone: Zone) -> None:
    server.context.trusted = parse_networks(["127.0.0.1"])
    assert connect(server).ask("MAIL FROM:<a@null.example>").startswith("250 ")
    assert zone.asked == []


def test_internationalized_domains_are_asked_for_by_their_a_labels(server, connect, zone) -> None:
    client = connect(server)
    assert client.ask("MAIL FROM:<a@b\xfccher.example> SMTPUTF8".encode()).startswith("550 5.7.27")

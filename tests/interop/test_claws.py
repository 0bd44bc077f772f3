"""Claws Mail: folders made and listed, filter rules on new mail, a search on the server, mail it sends, POP3."""

import contextlib
import dataclasses
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.claws import Claws, is_installed
from tests.interop.looking import flags_of, wait_for

OWN = frozenset(("NonJunk",))
"""Words of the program's own."""

MESSAGES = tuple(
    b"From: carol@example.net\r\nTo: user@example.test\r\nSubject: letter %s\r\n"
    b"Message-ID: <%s@example.net>\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nThe text of \xc3\xa4 %s.\r\n" % (word, word, word)
    for word in (b"alpha", b"beta", b"gamma", b"delta")
)

# "message" looks into the whole text, so the program fetches it.
RULES = """enabled rulename "a" account 1 subject match "alpha" move "#imap/Test/Archive"
enabled rulename "b" account 1 subject match "beta" mark stop
enabled rulename "c" account 1 message matchcase "of ä gamma" copy "#imap/Test/Junk" mark_as_read
enabled rulename "d" account 1 subject match "delta" delete
"""


@pytest.fixture
def user(user: Any) -> Any:
    """Another account: the program's file of passwords takes none with spaces."""
    address, password = f"claws.{user.address}", "Password-7"
    user.server.add_account(address, password)
    return dataclasses.replace(user, address=address, password=password)


@pytest.fixture
def start(user: Any, tmp_path: Path) -> Iterator[Callable[..., Claws]]:
    """Starts the program with the account of the user, and ends it after the test."""
    if not is_installed():
        pytest.skip("claws-mail or Xvfb is not installed")
    with contextlib.ExitStack() as running:

        def run(transport: str = "tls", rules: str = "", protocol: str = "imap") -> Claws:
            ports = {each: user.port(each, transport) for each in (protocol, "smtp")}
            shown = ssl.get_server_certificate(("localhost", user.port("imap", "tls")))
            program = Claws(
                tmp_path,
                address=user.address,
                password=user.password,
                ports=ports,
                transport=transport,
                certificate=ssl.PEM_cert_to_DER_cert(shown),
                rules=rules,
            )
            return running.enter_context(program)

        yield run


def test_claws_lists_folders_and_makes_its_own(user, start, other) -> None:
    """It makes a Queue where there is none (RFC 9051 §6.3.4), subscribes to it, and counts by STATUS."""
    user.receive(*MESSAGES[:3])
    claws = start()
    assert set(claws.status()) == {
        "INBOX",
        "Archive",
        "Drafts",
        "Junk",
        "Queue",
        "Sent",
        "Trash",
    }
    assert any(line.endswith(b"Queue") for line in other.lsub()[1])
    claws.run("--receive-all")
    wait_for((3, 3, 3), lambda: claws.status()["INBOX"])


def test_claws_filters_new_mail_on_the_server(user, start, other) -> None:
    claws = start(rules=RULES)
    user.receive(*MESSAGES)
    claws.run("--receive-all")
    wanted = {
        "INBOX": {"beta": ["\\Flagged"], "gamma": ["\\Seen"]},
        "Archive": {"alpha": []},
        "Junk": {"gamma": []},
    }
    for name, letters in wanted.items():
        wait_for(letters, lambda name=name: flags_of(other, name, but=OWN))
    claws.run("--receive-all")
    wait_for((1, 2), lambda: claws.status()["INBOX"][1:])


def test_claws_sees_what_others_do(user, start, other) -> None:
    """Marks and removals by another client are there at the next look."""
    user.receive(*MESSAGES)
    claws = start()
    claws.run("--receive-all")
    wait_for((4, 4, 4), lambda: claws.status()["INBOX"])
    other.select("INBOX")
    other.store("1:2", "+FLAGS", "(\\Seen)")
    other.copy("4", "Archive")
    other.store("4", "+FLAGS", "(\\Deleted)")
    other.expunge()
    claws.run("--receive-all")
    wait_for((1, 3), lambda: claws.status()["INBOX"][1:])
    assert claws.status()["Archive"][1:] == (1, 1)


def test_claws_searches_on_the_server(user, start) -> None:
    """SEARCH with letters outside ASCII (RFC 9051 §6.4.4); it prints the files in which it keeps what was found."""
    user.receive(*MESSAGES)
    claws = start()
    claws.run("--receive-all")
    wait_for(4, lambda: claws.status()["INBOX"][2])
    found = claws.run("--search", "#imap/Test/INBOX", "e", 'body_part matchcase "of ä GAMMA"')
    assert [Path(line).name for line in found.split("\n") if line] == ["3"], claws.log()
    assert "UID SEARCH CHARSET UTF-8 BODY" in claws.log()


def test_claws_sends_and_keeps_a_copy(user, start, other, transport: str) -> None:
    """What is in its queue goes out by SMTP with AUTH; the copy in Sent comes by APPEND. Lines may begin with dots."""
    claws = start(transport)
    message = (
        f"From: User <{user.address}>\nTo: {user.address}\nSubject: a letter of mine\n"
        "Date: Fri, 27 Nov 2026 11:00:00 +0000\nMessage-ID: <mine@example.test>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n.Grüße\n"
    )
    claws.queue(message, user.address, user.address)
    claws.run("--receive-all")  # it looks into its queue too
    claws.run("--send")
    wait_for({"mine"}, lambda: set(flags_of(other, "Sent", but=OWN)))
    wait_for({"mine"}, lambda: set(flags_of(other, "INBOX", but=OWN)))
    for name in ("Sent", "INBOX"):
        other.select(name, readonly=True)
        assert other.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1] == ".Grüße\r\n".encode(), name
    claws.run("--receive-all")
    wait_for((1, 1), lambda: claws.status()["INBOX"][1:])
    assert claws.status()["Sent"] == (0, 0, 1)


def test_claws_fetches_by_pop3(user, start, other, transport: str) -> None:
    """It removes what it has fetched (RFC 1939 §5)."""
    user.receive(*MESSAGES[:2])
    claws = start(transport, protocol="pop3")
    claws.run("--receive-all")
    wanted = ["The text of ä alpha.\n", "The text of ä beta.\n"]
    wait_for(wanted, lambda: [text.partition("\n\n")[2] for text in claws.fetched()])
    wait_for({}, lambda: flags_of(other, "INBOX", but=OWN))

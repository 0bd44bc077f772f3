"""Evolution's IMAP, POP3 and SMTP (Camel): folders, flags, moves, a search, NOTIFY, QRESYNC, mail it sends."""

import asyncio
import imaplib
import smtplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.evolution import Evolution, is_installed
from tests.interop.looking import flags_of, wait_for

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Listen, Pop3, Security
from pillarbox.core.secret import Secret
from pillarbox.store.directory import Directory

PASSWORD = "Pass word 7"
MESSAGES = tuple(
    b"From: carol@example.net\r\nTo: user@example.test\r\nSubject: letter %s\r\n"
    b"Message-ID: <%s@example.net>\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nThe text of \xc3\xa4 %s.\r\n" % (word, word, word)
    for word in (b"alpha", b"beta", b"gamma", b"delta")
)
CHANGED = {
    "1": ["letter alpha", ["\\Answered"]],
    "3": ["letter gamma", []],
    "4": ["letter delta", []],
}
DEEP = "Täglich & so/unten"


@pytest.fixture(scope="module")
def installed() -> None:
    if not is_installed():
        pytest.skip("gir1.2-camel-1.2, evolution-data-server or python3-gi is not installed")


@pytest.fixture
def start(installed: None, user: Any, tmp_path: Path) -> Iterator[Callable[..., Evolution]]:
    """Connects with the account of the user; the INBOX has the first three of MESSAGES."""
    user.receive(*MESSAGES[:3])
    with Evolution(tmp_path) as program:

        def run(transport: str = "tls") -> Evolution:
            ports = {protocol: user.port(protocol, transport) for protocol in ("imap", "smtp")}
            program.call("connect", user.address, user.password, ports, transport)
            return program

        yield run


def test_evolution_lists_and_reads(start, transport: str) -> None:
    program = start(transport)
    letters = program.call("letters", "INBOX", True)
    assert letters == {
        "1": ["letter alpha", []],
        "2": ["letter beta", []],
        "3": ["letter gamma", []],
    }
    folders = program.call("folders")
    assert set(folders) == {"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"}
    assert folders["INBOX"] == [3, 3]
    text = program.call("text", "INBOX", "2")
    assert text.split("\n\n")[1].strip() == "The text of ä beta."


def test_evolution_marks_moves_copies_and_expunges(start, other) -> None:
    """MOVE (RFC 6851) and COPY into a mailbox whose name is UTF-8 (RFC 6855 §3)."""
    program = start()
    program.call("letters", "INBOX", True)
    program.call("create", "", "Täglich & so")
    program.call("create", "Täglich & so", "oben")
    program.call("rename", "Täglich & so/oben", DEEP)
    program.call("mark", "INBOX", "1", ["\\Seen", "\\Flagged"], "project")
    program.call("file", "INBOX", ["1"], DEEP, True)
    program.call("file", "INBOX", ["2"], DEEP, False)
    program.call("mark", "INBOX", "3", ["\\Deleted"])
    program.call("expunge", "INBOX")
    assert flags_of(other, "INBOX", which="ALL") == {"beta": []}
    deep = '"T&AOQ-glich &- so/unten"'
    assert flags_of(other, deep, which="ALL") == {
        "alpha": ["\\Flagged", "\\Seen", "project"],
        "beta": [],
    }
    assert program.call("letters", DEEP, True) == {
        "1": ["letter alpha", ["\\Flagged", "\\Seen", "project"]],
        "2": ["letter beta", []],
    }
    program.call("delete", DEEP)
    assert other.select(deep)[0] == "NO"


def test_evolution_searches_on_the_server(start) -> None:
    program = start()
    program.call("letters", "INBOX", True)
    assert program.call("search", "INBOX", '(match-all (body-contains "TEXT ä gamma"))') == ["3"]
    assert "UID SEARCH BODY" in program.log()


def test_evolution_appends_and_sends(start, other, user, transport: str) -> None:
    program = start(transport)
    message = (
        f"From: {user.address}\nTo: {user.address}\nSubject: a letter of mine\n"
        "Message-ID: <mine@example.test>\n\n.Hello\n"
    )
    program.call("send", message, user.address, user.address)
    assert program.call("append", "Sent", message) == "1"
    wait_for({"alpha", "beta", "gamma", "mine"}, lambda: set(flags_of(other, "INBOX", which="ALL")))
    for name, number in (("INBOX", "4"), ("Sent", "1")):
        other.select(name, readonly=True)
        assert other.fetch(number, "(BODY.PEEK[TEXT])")[1][0][1] == b".Hello\r\n", name


def test_evolution_hears_of_what_others_do(start, other, user) -> None:
    """It asks for nothing: NOTIFY tells of mail, flags and expunges in the mailbox that it has selected (RFC 5465)."""
    program = start()
    program.call("letters", "INBOX", True)
    assert "NOTIFY SET (selected" in program.log()
    change_inbox(user, other)
    wait_for(CHANGED, lambda: program.call("letters", "INBOX"))


def test_evolution_catches_up_by_qresync(start, other, user) -> None:
    """It tells what it knew of a mailbox, and gets what has changed while another was selected (RFC 7162 §3.2.5)."""
    program = start()
    program.call("letters", "INBOX", True)
    program.call("letters", "Sent", True)
    change_inbox(user, other)
    assert program.call("letters", "INBOX", True) == CHANGED
    assert "SELECT INBOX (QRESYNC (" in program.log()
    assert "* VANISHED (EARLIER) 2" in program.log()


def test_evolution_catches_up_after_it_was_away(start, other, user) -> None:
    """With what it kept on disk: UIDs mean the same as before (RFC 9051 §2.3.1.1)."""
    program = start()
    program.call("letters", "INBOX", True)
    program.call("disconnect")
    change_inbox(user, other)
    program = start()
    assert program.call("letters", "INBOX", True) == CHANGED


@pytest.mark.usefixtures("installed")
def test_evolution_fetches_by_pop3(tmp_path: Path, transport: str) -> None:
    """Where no UTF8 is offered (RFC 6856 §2): it sends that command without CRLF, and waits for the answer."""
    directory = Directory(tmp_path / "directory.db", clock=time.time)
    directory.add_domain("example.test")
    directory.add_account("alice@example.test", *hash_password(Secret(PASSWORD)))
    directory.close()
    here = ["127.0.0.1:0"]
    server = Server(
        Config(
            "mail.example.test",
            str(tmp_path),
            listen=Listen(smtp=here, pop3=here, pop3s=here),
            security=Security(allow_cleartext_login=True),
            pop3=Pop3(utf8=False),
        )
    )

    def fetch(ports: dict[str, int]) -> list[str]:
        with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=10) as client:
            for octets in MESSAGES[:2]:
                client.sendmail("carol@example.net", ["alice@example.test"], octets)
        port = ports["pop3s" if transport == "tls" else "pop3"]
        (tmp_path / "home").mkdir()
        with Evolution(tmp_path / "home") as program:
            arguments = ("alice@example.test", PASSWORD, port, transport)
            texts = program.call("fetch", *arguments)
            assert program.call("fetch", *arguments) == []
        return texts

    async def scenario() -> list[str]:
        await server.start()
        try:
            ports = {name: places[0][1] for name, places in server.addresses.items()}
            return await asyncio.to_thread(fetch, ports)
        finally:
            await server.stop(1)

    texts = asyncio.run(scenario())
    assert [text.split("\n\n")[1].strip() for text in texts] == [
        "The text of ä alpha.",
        "The text of ä beta.",
    ]


def change_inbox(user: Any, other: imaplib.IMAP4) -> None:
    """One message more, one less, one marked: CHANGED."""
    user.receive(MESSAGES[3])
    other.select("INBOX")
    other.store("1", "+FLAGS", "(\\Answered)")
    other.store("2", "+FLAGS", "(\\Deleted)")
    other.expunge()

"""Programs that fetch mail: curl, mpop, fetchmail, getmail, mutt and Python's poplib and imaplib."""

import imaplib
import mailbox
import os
import poplib
import pty
import re
import select
import shutil
import time
from pathlib import Path

import pytest

MESSAGES = [
    b"Subject: one\r\n\r\nfirst\r\n",
    b"Subject: two\r\n\r\n.\r\n..\r\n.x\r\nsecond\r\n",
    b"Subject: three\r\n\r\n" + b"a long message\r\n" * 40_000,
]
BODIES = sorted(octets.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n") for octets in MESSAGES)


def bodies_in_maildir(path: Path) -> list[bytes]:
    found = []
    for key in mailbox.Maildir(path, create=False):
        octets = bytes(key).replace(b"\r\n", b"\n")
        found.append(octets.partition(b"\n\n")[2])
    return sorted(found)


def log_in_by_imap(user) -> imaplib.IMAP4:
    client = imaplib.IMAP4_SSL(
        "localhost", user.server.ports["imaps"], ssl_context=user.server.client_context()
    )
    client.login(user.address, user.password)
    return client


def check_empty(user) -> None:
    with log_in_by_imap(user) as client:
        assert client.select()[1] == [b"0"]


def make_mda(folder: Path, write) -> Path:
    """A program that files the mail on its standard input into a maildir."""
    make_maildir(folder / "Mail")
    mda: Path = write("mda", f"#!/bin/sh\nexec cat > {folder}/Mail/new/$(date +%s%N).x\n")
    mda.chmod(0o700)
    return mda


def make_maildir(path: Path) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    return path


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_curl(user, transport: str, program, protocol: str) -> None:
    user.receive(*MESSAGES)
    scheme = protocol + ("s" if transport == "tls" else "")
    address = f"{scheme}://localhost:{user.port(protocol, transport)}"
    curl = ["curl", "--silent", "--show-error", "--cacert", user.ca_file]
    curl += ["--ssl-reqd"] if transport == "starttls" else []
    curl += ["--user", f"{user.address}:{user.password}"]
    if protocol == "pop3":
        assert len(program(*curl, f"{address}/").splitlines()) == 3
        shown = program(*curl, f"{address}/2")
    else:
        assert "Archive" in program(*curl, f"{address}/")
        shown = program(*curl, f"{address}/INBOX;MAILINDEX=2")
    assert shown.replace("\r\n", "\n").endswith("\n\n.\n..\n.x\nsecond\n")


def test_mpop(user, transport: str, program, write, tmp_path: Path) -> None:
    user.receive(*MESSAGES)
    tls = {"tls": "on\ntls_starttls off", "starttls": "on\ntls_starttls on", "plain": "off"}
    make_maildir(tmp_path / "Mail")
    config = write(
        "mpoprc",
        f"account default\nhost localhost\nport {user.port('pop3', transport)}\n"
        f"user {user.address}\npassword {user.password}\nauth plain\n"
        f"tls {tls[transport]}\ntls_trust_file {user.ca_file}\nkeep off\n"
        f"delivery maildir {tmp_path / 'Mail'}\nuidls_file {tmp_path / 'uidls'}\n",
    )
    program("mpop", "-C", config)
    assert bodies_in_maildir(tmp_path / "Mail") == BODIES
    check_empty(user)


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_fetchmail(user, transport: str, program, write, tmp_path: Path, protocol: str) -> None:
    user.receive(*MESSAGES)
    ssl = {
        "tls": f"ssl sslcertck sslcertfile {user.ca_file}",
        "starttls": f"sslproto TLS1.2+ sslcertck sslcertfile {user.ca_file}",
        "plain": "sslproto ''",
    }
    mda = make_mda(tmp_path, write)
    config = write(
        "fetchmailrc",
        f"poll localhost protocol {protocol} port {user.port(protocol, transport)}\n"
        f'  username "{user.address}" password "{user.password}"\n'
        f'  {ssl[transport]} fetchall mda "{mda}"\n',
    )
    files = ("--pidfile", tmp_path / "pid", "--idfile", tmp_path / "ids")
    program("fetchmail", "-f", config, "--nosyslog", "--nodetach", *files)
    assert bodies_in_maildir(tmp_path / "Mail") == BODIES
    check_empty(user)


@pytest.mark.parametrize("transport", ["tls", "plain"])
@pytest.mark.parametrize("protocol", ["IMAP", "POP3"])
def test_getmail(user, transport: str, program, write, tmp_path: Path, protocol: str) -> None:
    user.receive(*MESSAGES)
    mda = make_mda(tmp_path, write)
    kind = f"Simple{protocol}{'SSL' if transport == 'tls' else ''}Retriever"
    ca = f"ca_certs = {user.ca_file}" if transport == "tls" else ""
    write(
        "getmailrc",
        f"[retriever]\ntype = {kind}\nserver = localhost\n"
        f"port = {user.port(protocol.lower(), transport)}\n{ca}\n"
        f"username = {user.address}\npassword = {user.password}\n"
        f"[destination]\ntype = MDA_external\npath = {mda}\nallow_root_commands = true\n"
        "[options]\ndelete = true\ndelivered_to = false\nreceived = false\n",
    )
    program("getmail", "--getmaildir", tmp_path)
    assert bodies_in_maildir(tmp_path / "Mail") == BODIES
    check_empty(user)


def test_mutt_reads_copies_and_deletes(user, transport: str, write, tmp_path: Path) -> None:
    if shutil.which("mutt") is None:
        pytest.skip("mutt is not installed")
    user.receive(*MESSAGES)
    secure = "s" if transport == "tls" else ""
    name = user.address.replace("@", "%40")
    config = write(
        "muttrc",
        f'set folder="imap{secure}://{name}@localhost:{user.port("imap", transport)}/"\n'
        f'set spoolfile="=INBOX" imap_pass="{user.password}" imap_user="{user.address}"\n'
        f'set certificate_file="{user.ca_file}" imap_authenticators="login"\n'
        f"set ssl_starttls={'yes' if transport == 'starttls' else 'no'}\n"
        f"set ssl_force_tls={'no' if transport == 'plain' else 'yes'}\n"
        "set quit=yes delete=yes confirmappend=no confirmcreate=no wait_key=no beep=no\n"
        'push "<tag-pattern>~A<enter><tag-prefix><copy-message>'
        f"{tmp_path}/copy<enter><tag-prefix><clear-flag>N"
        '<delete-pattern>~s two<enter><quit>"\n',
    )
    run_in_terminal(["mutt", "-F", str(config)], tmp_path)
    found = [bytes(mail).partition(b"\n\n")[2] for mail in mailbox.mbox(tmp_path / "copy")]
    assert sorted(body.rstrip(b"\n") for body in found) == sorted(b.rstrip(b"\n") for b in BODIES)
    with log_in_by_imap(user) as client:
        assert client.select()[1] == [b"2"]
        _, rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert [row[1].strip() for row in rows if isinstance(row, tuple)] == [
            b"Subject: one",
            b"Subject: three",
        ]


@pytest.mark.parametrize("extension", ["condstore", "qresync"])
def test_mutt_resynchronises_its_cache_over_compression(
    user, extension: str, write, tmp_path: Path
) -> None:
    if shutil.which("mutt") is None:
        pytest.skip("mutt is not installed")
    user.receive(*MESSAGES)
    (tmp_path / "cache").mkdir()
    name = user.address.replace("@", "%40")

    def copy_all(target: str) -> list[str]:
        """What mutt shows of INBOX now, by subject."""
        config = write(
            "muttrc",
            f'set folder="imaps://{name}@localhost:{user.port("imap", "tls")}/"\n'
            f'set spoolfile="=INBOX" imap_pass="{user.password}" imap_user="{user.address}"\n'
            f'set certificate_file="{user.ca_file}" header_cache="{tmp_path}/cache"\n'
            f"set imap_condstore={'yes' if extension == 'condstore' else 'no'}\n"
            f"set imap_qresync={'yes' if extension == 'qresync' else 'no'} imap_deflate=yes\n"
            "set quit=yes delete=no confirmappend=no confirmcreate=no wait_key=no beep=no mark_old=no\n"
            'push "<tag-pattern>~A<enter><tag-prefix><copy-message>'
            f'{tmp_path}/{target}<enter><quit>"\n',
        )
        run_in_terminal(["mutt", "-F", str(config)], tmp_path)
        return sorted(
            f"{mail['subject']} {'F' in mail.get_flags()}"
            for mail in mailbox.mbox(tmp_path / target)
        )

    assert copy_all("first") == ["one False", "three False", "two False"]
    with log_in_by_imap(user) as client:
        client.select()
        client.store("1", "+FLAGS", "\\Flagged")
        client.store("2", "+FLAGS", "\\Deleted")
        client.expunge()
    user.receive(MESSAGES[0].replace(b"Subject: one", b"Subject: four"))
    assert copy_all("second") == ["four False", "one True", "three False"]


def run_in_terminal(command: list[str], home: Path) -> None:
    """A program that insists on a terminal, until it ends by itself."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(HOME=str(home), TERM="vt100", LC_ALL="C.UTF-8")
        os.chdir(home)
        os.execvp(command[0], command)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the program ended
                break
            shown += chunk
    else:
        os.kill(process, 9)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert status == 0, re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b" ", shown).decode("utf-8", "replace")


def test_poplib(user, transport: str) -> None:
    user.receive(*MESSAGES)
    context = user.server.client_context()
    port = user.port("pop3", transport)
    if transport == "tls":
        client: poplib.POP3 = poplib.POP3_SSL("localhost", port, context=context, timeout=10)
    else:
        client = poplib.POP3("localhost", port, timeout=10)
    if transport == "starttls":
        client.stls(context)
    client.user(user.address)
    client.pass_(user.password)
    count, octets = client.stat()
    assert count == 3
    total = 0
    for number, wanted in enumerate(MESSAGES, 1):
        _, lines, _ = client.retr(number)
        got = b"".join(line + b"\r\n" for line in lines)
        total += len(got)
        assert got.endswith(wanted)
        client.dele(number)
    assert total == octets
    assert len(client.uidl()[1]) == 0
    client.quit()
    check_empty(user)


def test_imaplib(user, transport: str) -> None:
    user.receive(*MESSAGES)
    context = user.server.client_context()
    port = user.port("imap", transport)
    if transport == "tls":
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL("localhost", port, ssl_context=context)
    else:
        client = imaplib.IMAP4("localhost", port)
    with client:
        if transport == "starttls":
            client.starttls(context)
        client.authenticate("PLAIN", lambda _: f"\0{user.address}\0{user.password}".encode())
        assert client.select()[1] == [b"3"]
        _, rows = client.fetch("1:*", "(BODY.PEEK[TEXT])")
        texts = [row[1] for row in rows if isinstance(row, tuple)]
        assert texts == [octets.partition(b"\r\n\r\n")[2] for octets in MESSAGES]
        assert client.search(None, "SUBJECT", "two")[1] == [b"2"]
        assert client.store("2", "+FLAGS", "(\\Deleted $Junk)")[0] == "OK"
        assert client.copy("1:2", "Archive")[0] == "OK"
        assert client.expunge()[1] == [b"2"]
        assert client.create("Ordner/Unterordner")[0] == "OK"
        octets = b"Subject: mine\r\n\r\nput here\r\n"
        assert client.append("Ordner/Unterordner", "(\\Seen)", None, octets)[0] == "OK"
        assert client.select("Ordner/Unterordner")[1] == [b"1"]
        _, rows = client.fetch("1", "(FLAGS RFC822)")
        assert rows[0][1] == octets
        assert client.delete("Ordner/Unterordner")[0] == "OK"

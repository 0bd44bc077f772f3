"""Mail moves from Dovecot as `docs/howto/move.md` says: its file for mbsync and its loop are run."""

import imaplib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ports import free_port

sys.path.append(str(Path(__file__).parents[1] / "docs"))
from pages import ROOT, blocks

DOVECOT = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin")
PAGE = ROOT / "docs" / "howto" / "move.md"
MOVER = "mover@example.test"
THERE, HERE = "master password", "of the mover"

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%u
first_valid_uid = 1
passdb {{
  driver = static
  args = password=nobody knows
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={folder}/home/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
  chroot =
}}
service anvil {{
  chroot =
}}
namespace inbox {{
  inbox = yes
}}
"""


@pytest.fixture
def dovecot() -> Iterator[int]:
    """The port of one whose users can be reached by its master user."""
    if DOVECOT is None or os.geteuid() != 0 or shutil.which("mbsync") is None:
        pytest.skip("needs root, Dovecot and mbsync (make interop-deps)")
    folder = Path(tempfile.mkdtemp(prefix="dovecot"))
    folder.chmod(0o755)
    for name in ("mail", "home"):
        (folder / name).mkdir()
        os.chown(folder / name, 65534, 65534)
    port = free_port()
    (folder / "master-users").write_text(f"mover:{{PLAIN}}{THERE}\n")
    (folder / "master-users").chmod(0o644)
    (master,) = [block.text for block in blocks(PAGE, "text") if "master = yes" in block.text]
    master = master.replace("/etc/dovecot/master-users", f"{folder}/master-users")
    (folder / "dovecot.conf").write_text(master + CONFIG.format(folder=folder, port=port))
    process = subprocess.Popen([DOVECOT, "-F", "-c", str(folder / "dovecot.conf")])
    try:
        end = time.monotonic() + 10
        while True:
            try:
                imaplib.IMAP4("127.0.0.1", port).logout()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def put(client: imaplib.IMAP4, folder: str, name: str, flags: str = "", year: int = 2020) -> None:
    octets = f"Subject: {name}\r\nMessage-ID: <{name}@a.example>\r\n\r\nx\r\n".encode()
    answer = client.append(folder, flags, f'"02-Jan-{year} 10:00:00 +0000"', octets)
    assert answer[0] == "OK"


def found(client: imaplib.IMAP4, folder: str) -> list[tuple[str, set[str], str]]:
    """(subject, flags, year) of each message, sorted."""
    assert client.select(folder, readonly=True)[0] == "OK"
    _, rows = client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    shown = []
    for row in rows:
        if isinstance(row, tuple):
            head = row[0].decode()
            flags = set(re.search(r"FLAGS \(([^)]*)\)", head)[1].split()) - {"\\Recent"}
            year = re.search(r'INTERNALDATE "..-...-(\d+)', head)[1]
            shown.append((row[1].decode().split()[1], flags, year))
    return sorted(shown)


def test_a_mailbox_moves_with_folders_flags_and_dates(
    server, user, dovecot: int, tmp_path: Path
) -> None:
    server.add_account(MOVER, HERE)

    async def let(store) -> None:
        known = store.directory.known_account(MOVER)
        store.directory.credentials.set_supporter(known.id, allowed=True)

    server.run(let)
    (tmp_path / "there").write_text(THERE)
    (tmp_path / "here").write_text(HERE)
    (template,) = [block.text for block in blocks(PAGE, "text") if "IMAPAccount" in block.text]
    template = (
        template.replace("old.example.org", f"127.0.0.1\nPort {dovecot}")
        .replace("mail.example.org", f"127.0.0.1\nPort {user.port('imap', 'plain')}")
        .replace("SSLType IMAPS", "SSLType None")
        .replace("mover@example.org", MOVER)
        .replace("PASSWORD_THERE", f"{tmp_path}/there")
        .replace("PASSWORD_HERE", f"{tmp_path}/here")
        .replace("STATE", f"{tmp_path}/state")
    )
    (tmp_path / "move.template").write_text(template)
    (tmp_path / "users").write_text(f"{user.address}\n")
    (loop,) = [block.text for block in blocks(PAGE, "sh") if "mbsync" in block.text]

    def move() -> None:
        done = subprocess.run(
            ["sh", "-e", "-c", loop.replace("STATE", f"{tmp_path}/state")],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, "again" in done.stderr) == (0, False), done.stderr

    old = imaplib.IMAP4("127.0.0.1", dovecot, timeout=10)
    old.login(f"{user.address}*mover", THERE)
    put(old, "INBOX", "one", "(\\Seen)", 2020)
    put(old, "INBOX", "two", "(\\Flagged \\Answered)", 2021)
    for name in ("Projects.2024", '"Sent Items"'):
        old.create(name)
    put(old, "Projects.2024", "plan", "(\\Seen)", 2022)
    put(old, '"Sent Items"', "sent", "(\\Seen)", 2023)
    move()
    new = imaplib.IMAP4("127.0.0.1", user.port("imap", "plain"), timeout=10)
    new.login(user.address, user.password)
    assert found(new, "INBOX") == [
        ("one", {"\\Seen"}, "2020"),
        ("two", {"\\Flagged", "\\Answered"}, "2021"),
    ]
    assert found(new, "Projects/2024") == [("plan", {"\\Seen"}, "2022")]
    assert found(new, "Sent") == [("sent", {"\\Seen"}, "2023")]
    assert b"Sent Items" not in b" ".join(new.list()[1])
    # Until the MX leads here, both get mail; then the second run.
    put(old, "INBOX", "late", "", 2024)
    user.receive(b"Subject: straight\r\nMessage-ID: <straight@a.example>\r\n\r\nx\r\n")
    old.select("INBOX")
    old.store("1", "+FLAGS", "(\\Deleted)")
    old.expunge()
    move()
    new.noop()
    assert [name for name, _, _ in found(new, "INBOX")] == ["late", "straight", "two"]
    assert [name for name, _, _ in found(old, "INBOX")] == ["late", "two"]
    # Users are let in; one more run changes nothing of theirs.
    new.select("INBOX")
    new.store("1", "+FLAGS", "(\\Seen)")
    new.store("2", "+FLAGS", "(\\Deleted)")
    new.expunge()
    before = found(new, "INBOX")
    assert len(before) == 2
    move()
    new.noop()
    assert found(new, "INBOX") == before
    old.logout()
    new.logout()

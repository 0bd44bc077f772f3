"""`backup` and `restore` beside a server process, as programs that read mail see it."""

import imaplib
import json
import os
import poplib
import re
import shutil
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest
from serverprocess import DOMAIN, PASSWORD, ServerProcess

from pillarbox.store.accounts import account_path
from pillarbox.trace.reader import TraceReader

USER = f"user0@{DOMAIN}"


@pytest.fixture(params=[1, 2], ids=["one-process", "two-workers"])
def server(request: pytest.FixtureRequest, tmp_path: Path):
    running = ServerProcess(tmp_path / "server", 2, workers=request.param)
    running.start()
    yield running
    running.stop()


def pillarbox(server: ServerProcess, *arguments: str, code: int = 0, typed: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pillarbox", *arguments],
        cwd=server.folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr if code else done.stdout


def send(server: ServerProcess, first: int, last: int) -> None:
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=20) as client:
        for number in range(first, last):
            octets = f"Subject: {number}\r\nMessage-ID: <{number}@example.net>\r\n\r\nx\r\n"
            client.sendmail("carol@example.net", [USER], octets.encode())


def run_client(folder: Path, *command: str | Path, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd=folder,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode in codes, done.stdout + done.stderr


def unique_ids(server: ServerProcess) -> list[bytes]:
    client = poplib.POP3("127.0.0.1", server.pop3, timeout=20)
    client.user(USER)
    client.pass_(PASSWORD)
    _, lines, _ = client.uidl()
    client.quit()
    return [line.split()[1] for line in lines]


def test_a_whole_server_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    send(server, 0, 20)
    summary = json.loads(pillarbox(server, "backup", str(tmp_path / "saved"), "--json"))
    assert (summary["whole"], summary["accounts"], summary["damaged"]) == (True, 2, {})
    (copy,) = (tmp_path / "saved" / "configuration").iterdir()
    assert copy.read_text() == (server.folder / "pillarbox.toml").read_text()
    before = unique_ids(server)
    assert "stop it first" in pillarbox(server, "restore", str(tmp_path / "saved"), USER, code=1)
    server.kill()
    shutil.rmtree(server.folder / "data")
    assert ": 2 accounts." in pillarbox(server, "restore", str(tmp_path / "saved"))
    server.start()
    assert unique_ids(server) == before
    assert len(before) == 20
    pillarbox(server, "check")


@pytest.mark.skipif(shutil.which("fetchmail") is None, reason="fetchmail is not installed")
def test_fetchmail_fetches_nothing_twice(server: ServerProcess, tmp_path: Path) -> None:
    """RFC 1939 §7: a message keeps its unique id."""
    fetched = tmp_path / "fetched"
    config = tmp_path / "fetchmailrc"
    config.write_text(
        f"poll 127.0.0.1 protocol pop3 port {server.pop3} uidl\n"
        f'  username "{USER}" password "{PASSWORD}" sslproto "" keep mda "cat >> {fetched}"\n'
    )
    config.chmod(0o600)
    command = ("fetchmail", "-f", config, "--nosyslog", "--nodetach", "--pidfile", tmp_path / "pid")
    command += ("--idfile", tmp_path / "ids")
    send(server, 0, 5)
    run_client(tmp_path, *command)
    pillarbox(server, "backup", str(tmp_path / "saved"))
    send(server, 5, 8)  # these are lost
    run_client(tmp_path, *command)
    restore(server, tmp_path / "saved")
    send(server, 8, 10)
    run_client(tmp_path, *command, codes=(0, 1))
    text = fetched.read_text()
    assert [text.count(f"Subject: {number}\n") for number in range(10)] == [1] * 10


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="mbsync is not installed")
def test_mbsync_sees_that_the_numbers_are_new(server: ServerProcess, tmp_path: Path) -> None:
    """RFC 3501 §2.3.1.1: it must not take new messages for those of before, nor delete ours. mbsync finds by Message-ID
    that the mailbox is the same one, and goes on."""
    config = configure_mbsync(tmp_path, server, "Sync Pull\nExpunge None")
    sync_and_save(server, tmp_path, config)
    before = uidvalidity(server)
    restore(server, tmp_path / "saved")
    assert uidvalidity(server) > before
    send(server, 30, 33)
    run_client(tmp_path, "mbsync", "-c", config, "-a")
    assert synced(tmp_path) == list(range(33))


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="mbsync is not installed")
def test_mbsync_gets_back_what_was_deleted_after_the_backup(
    server: ServerProcess, tmp_path: Path
) -> None:
    config = configure_mbsync(tmp_path, server, "Sync All\nExpunge Both")
    sync_and_save(server, tmp_path, config)
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        client.select("INBOX")
        client.uid("STORE", "1,6:8,30", "+FLAGS", "(\\Deleted)")
        client.expunge()
    send(server, 30, 33)  # these are lost
    run_client(tmp_path, "mbsync", "-c", config, "-a")
    assert synced(tmp_path) == [*range(1, 5), *range(8, 29), *range(30, 33)]
    restore(server, tmp_path / "saved")
    for _ in range(2):
        run_client(tmp_path, "mbsync", "-c", config, "-a")
    assert synced(tmp_path) == list(range(30))
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        assert client.select("INBOX") == ("OK", [b"30"])
        _, (uids,) = client.uid("SEARCH", "ALL")
    numbers = list(map(int, uids.split()))
    assert numbers[:4] == [2, 3, 4, 5]  # they kept theirs
    assert numbers[-5] > 33


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="mbsync is not installed")
def test_mbsync_goes_on_with_an_account_that_was_made_anew_and_restored(
    server: ServerProcess, tmp_path: Path
) -> None:
    config = configure_mbsync(tmp_path, server, "Sync All\nExpunge Both")
    sync_and_save(server, tmp_path, config)
    server.stop()
    for path in (server.folder / "data" / "accounts").glob("*/*"):
        path.unlink()
    os.truncate(server.folder / "data" / "lock", 0)  # they are not missing: it begins anew
    server.start()
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        assert client.select("INBOX") == ("OK", [b"0"])
    restore(server, tmp_path / "saved")
    run_client(tmp_path, "mbsync", "-c", config, "-a")
    assert synced(tmp_path) == list(range(30))


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="mbsync is not installed")
@pytest.mark.parametrize("how", ["whole", "account made anew"])
@pytest.mark.parametrize("is_early", [True, False])
def test_mbsync_gets_new_mail_after_a_loss(
    server: ServerProcess, tmp_path: Path, how: str, is_early: bool
) -> None:
    """It had seen UIDs that came after the backup, and nobody knows how many: new mail must have none of them. Whether
    the new mail comes before the first synchronisation or behind it."""
    config = configure_mbsync(tmp_path, server, "Sync Pull\nExpunge None")
    sync: tuple[str | Path, ...] = ("mbsync", "-c", config, "-a")
    send(server, 0, 20)
    run_client(tmp_path, *sync)
    pillarbox(server, "backup", str(tmp_path / "saved"))
    send(server, 20, 25)  # these are lost
    run_client(tmp_path, *sync)
    server.stop()
    if how == "whole":
        (server.folder / "data").rename(tmp_path / "lost")
        pillarbox(server, "restore", str(tmp_path / "saved"))
    else:
        pillarbox(server, "account", "remove", USER, "--yes")
        add = ("account", "add", USER, "--password-stdin")
        pillarbox(server, *add, typed=PASSWORD)
        pillarbox(server, "restore", str(tmp_path / "saved"), USER)
    server.start()
    if is_early:
        send(server, 30, 35)
        run_client(tmp_path, *sync)
    else:
        run_client(tmp_path, *sync)
        send(server, 30, 35)
    run_client(tmp_path, *sync)
    assert synced(tmp_path) == [*range(25), *range(30, 35)]


def test_a_whole_restore_that_was_killed_is_repeated(server: ServerProcess, tmp_path: Path) -> None:
    send(server, 0, 3)
    pillarbox(server, "backup", str(tmp_path / "saved"))
    server.stop()
    data = server.folder / "data"
    data.rename(tmp_path / "lost")
    # As it stands when all but the directory is in place
    shutil.copytree(tmp_path / "lost" / "accounts", data / "accounts")
    (data / ".restoring").mkdir()
    (data / "lock").touch()
    for command in (["serve"], ["account", "list"]):
        said = pillarbox(server, *command, code=1)
        assert "was interrupted: repeat it, with pillarbox restore" in said
    pillarbox(server, "restore", str(tmp_path / "saved"))
    assert not (data / ".restoring").exists()
    (data / ".restoring").mkdir()  # it was killed at its very end
    server.start()
    assert len(unique_ids(server)) == 3
    server.stop()
    assert not (data / ".restoring").exists()
    (data / ".restoring").mkdir()
    said = pillarbox(server, "restore", str(tmp_path / "saved"), code=1)
    assert "came to its end before" in said
    assert (data / "directory.db").exists()


def test_a_manifest_that_lacks_a_file_is_told(server: ServerProcess, tmp_path: Path) -> None:
    send(server, 0, 1)
    pillarbox(server, "backup", str(tmp_path / "saved"))
    server.stop()
    path = tmp_path / "saved" / "manifest.json"
    manifest = json.loads(path.read_text())
    name = manifest["accounts"][USER]["file"]
    del manifest["files"][name]
    path.write_text(json.dumps(manifest))
    said = pillarbox(server, "restore", str(tmp_path / "saved"), USER, code=1)
    assert f"{name} is not in manifest.json" in said


def sync_and_save(server: ServerProcess, folder: Path, config: Path) -> None:
    """Thirty messages, here and in a backup."""
    send(server, 0, 30)
    run_client(folder, "mbsync", "-c", config, "-a")
    pillarbox(server, "backup", str(folder / "saved"), "--account", USER)


def restore(server: ServerProcess, saved: Path) -> None:
    server.stop()
    pillarbox(server, "restore", str(saved), USER)
    server.start()


def configure_mbsync(folder: Path, server: ServerProcess, how: str) -> Path:
    for name in ("cur", "new", "tmp"):
        (folder / "Mail" / "INBOX" / name).mkdir(parents=True)
    config = folder / "mbsyncrc"
    config.write_text(
        f"IMAPAccount far\nHost 127.0.0.1\nPort {server.imap}\nUser {USER}\nPass {PASSWORD}\n"
        "SSLType None\nAuthMechs PLAIN\n\nIMAPStore far\nAccount far\n\n"
        f"MaildirStore near\nPath {folder}/Mail/\nInbox {folder}/Mail/INBOX\n\n"
        f"Channel both\nFar :far:\nNear :near:\nPatterns INBOX\n{how}\nSyncState *\n"
    )
    config.chmod(0o600)
    return config


def synced(tmp_path: Path) -> list[int]:
    """The subjects that mbsync has here."""
    folder = tmp_path / "Mail" / "INBOX"
    texts = [path.read_text() for name in ("cur", "new") for path in (folder / name).iterdir()]
    return sorted(
        int(line[9:])
        for text in texts
        for line in text.splitlines()
        if line.startswith("Subject: ")
    )


def test_one_damaged_file_keeps_nobody_else_from_their_mail(server: ServerProcess) -> None:
    """RFC 5530 §3 CORRUPTION, RFC 3206 §4 SYS/PERM, RFC 5321 §4.2.1: 4yz, for the sender keeps the mail."""
    send(server, 0, 5)
    server.stop()
    path = account_path(server.folder / "data" / "accounts", 1)
    path.write_bytes(os.urandom(path.stat().st_size))
    server.start()
    other = f"user1@{DOMAIN}"
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=20) as client:
        client.sendmail("carol@example.net", [other], b"Subject: x\r\n\r\n")
        with pytest.raises(smtplib.SMTPDataError) as refusal:
            client.sendmail("carol@example.net", [USER], b"Subject: x\r\n\r\n")
        assert 400 <= refusal.value.smtp_code < 500
        # Who sends to both is told that all is well: what is for the damaged file waits in the queue.
        client.sendmail("carol@example.net", [USER, other], b"Subject: both\r\n\r\n")
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        status, answer = client.select("INBOX")
        assert (status, answer[0][:12]) == ("NO", b"[CORRUPTION]")
    with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/PERM\]"):
        unique_ids(server)
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(other, PASSWORD)
        assert client.select("INBOX") == ("OK", [b"2"])
    assert "1 problem found" in pillarbox(server, "check", code=1)
    server.stop()
    cure = f"the mail file of {USER} is damaged: stop the server, then run `pillarbox check --repair {USER}`"
    assert (server.folder / "out").read_text().count(cure) == 1
    # Nothing of the file can be read, so nobody knows how much mail it had.
    text = pillarbox(server, "check", "--repair", "--json", code=1)
    shown, _ = json.JSONDecoder().raw_decode(text)
    assert [each["account"] for each in shown["repaired"]] == [USER]
    server.start()
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        end = time.monotonic() + 20
        while client.select("INBOX") != ("OK", [b"1"]):
            assert time.monotonic() < end
            time.sleep(0.1)
        _, rows = client.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert b"Subject: both" in rows[0][1]


def damage_within(path: Path) -> None:
    """So that a file can be opened and read from, and takes no mail: the root of the table of texts is lost."""
    connection = apsw.Connection(str(path))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'octets'"
    (page,) = connection.execute(sql).fetchone()
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    # What others have in memory counts no more after this.
    connection.execute("UPDATE account_state SET modseq = modseq + 1")
    connection.close()


def test_mail_that_waits_for_a_damaged_file_is_seen_by_whoever_looks_after_the_server(
    server: ServerProcess,
) -> None:
    """Nobody opens the mailbox."""
    path = account_path(server.folder / "data" / "accounts", 1)
    send(server, 0, 5)
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=20) as client:
        client.sendmail("carol@example.net", [USER], b"Subject: x\r\n\r\n")  # the file is open
        damage_within(path)
        client.mail("carol@example.net")
        client.rcpt(USER)
        code, said = client.data(b"Subject: waits\r\n\r\n")
    assert code == 250
    queue_id = said.split()[-1].decode()
    end = time.monotonic() + 30
    while "taken and not in it" not in (shown := pillarbox(server, "doctor", code=1)):
        assert time.monotonic() < end, shown
        time.sleep(1)
    cure = f"pillarbox check --repair {USER}"
    log = (server.folder / "out").read_text().splitlines()
    assert len([line for line in log if " ERROR" in line or "damaged" in line]) == 1
    assert [line for line in log if f"`{cure}`" in line]
    assert f"error    accounts  {USER}: its mail file is damaged; " in shown
    assert "1 message taken and not in it" in shown or "messages taken and not in it" in shown
    assert f"do: stop the server, then run: {cure}" in shown
    shown = pillarbox(server, "explain", queue_id)
    assert f"waits in the journal for the mail file of {USER}" in shown
    assert re.search("waiting for mailboxes here: [1-9]", pillarbox(server, "status"))
    server.stop()
    assert "no message is lost" in pillarbox(server, "check", "--repair")  # the journal has all
    shown = pillarbox(server, "explain", queue_id)
    assert "  filed " in shown
    assert re.search(rf"  now +{USER}, INBOX, UID ", shown)


def test_a_restore_tells_where_mail_is_that_waited_for_a_missing_file(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = account_path(server.folder / "data" / "accounts", 1)
    send(server, 0, 2)
    pillarbox(server, "backup", str(tmp_path / "saved"))
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=20) as client:
        client.sendmail("carol@example.net", [USER], b"Subject: x\r\n\r\n")  # the file is open
        for name in path.parent.glob(f"{path.stem}.db*"):
            name.unlink()
        client.mail("carol@example.net")
        client.rcpt(USER)
        code, said = client.data(b"Subject: waits\r\n\r\n")
    assert code == 250
    queue_id = said.split()[-1].decode()
    waits = f"waits in the journal for the mail file of {USER}, which is missing: see pillarbox"
    end = time.monotonic() + 30
    while "taken and not in it" not in (shown := pillarbox(server, "doctor", code=1)):
        assert time.monotonic() < end, shown
        time.sleep(0.1)
    reader = TraceReader(server.folder / "data")
    while not list(reader.find([queue_id], whole=True)):  # it is written once a second
        assert time.monotonic() < end
        time.sleep(0.1)
    reader.close()
    assert waits in pillarbox(server, "explain", queue_id)
    assert re.search("waiting for mailboxes here: [1-9]", pillarbox(server, "status"))
    server.stop()
    pillarbox(server, "restore", str(tmp_path / "saved"), USER)
    shown = pillarbox(server, "explain", queue_id)
    assert "  filed " in shown
    assert re.search(rf"  now +{USER}, INBOX, UID ", shown)
    assert waits not in shown


NAMESPACE = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="only root can make mounts of its own",
)


def in_namespace(folder: Path, script: str) -> str:
    """What a script with mounts of its own says."""
    script = script.replace("pillarbox", f"{sys.executable} -m pillarbox")
    command = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@NAMESPACE
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "pillarbox.toml").write_text('hostname = "mail.example.test"\ndata_dir = "data"\n')
    said = in_namespace(
        tmp_path,
        "mount -t tmpfs -o size=1m tmpfs data && pillarbox domain add example.test && "
        "dd if=/dev/zero of=data/full bs=4k count=1000 2>/dev/null; pillarbox domain list",
    )
    assert "directory.db: the disk is full: make room where " in said


@NAMESPACE
def test_a_read_only_disk_is_named_and_can_be_saved(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server", 1)
    server.start()
    send(server, 0, 3)
    server.stop()
    said = in_namespace(
        server.folder,
        "mount --bind data data && mount -o remount,ro,bind data; pillarbox serve; echo serve ended $?;"
        " pillarbox check; pillarbox backup saved",
    )
    assert "Read-only file system" in said
    assert "serve ended 1" in said
    assert "The store is in order." in said
    assert "The server was saved: 1 account" in said
    shutil.rmtree(server.folder / "data")
    pillarbox(server, "restore", "saved")
    server.start()
    assert len(unique_ids(server)) == 3
    server.stop()


@NAMESPACE
def test_a_backup_onto_a_full_disk_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server", 1)
    server.start()
    send(server, 0, 3)
    server.stop()
    (server.folder / "small").mkdir()
    said = in_namespace(
        server.folder,
        "mount -t tmpfs -o size=200k tmpfs small; pillarbox backup small; ls -A small;"
        " pillarbox backup small/x; ls -A small",
    )
    lines = said.splitlines()
    assert len(lines) == 2
    assert all(re.search("the disk is full|No space left", line) for line in lines)


def uidvalidity(server: ServerProcess) -> int:
    with imaplib.IMAP4("127.0.0.1", server.imap, timeout=20) as client:
        client.login(USER, PASSWORD)
        client.select("INBOX", readonly=True)
        return int(client.response("UIDVALIDITY")[1][0])

"""mbsync keeps 1,000 messages the same on both sides: new ones, flags and deletions; then it has nothing to do."""

import asyncio
import imaplib
import re
from pathlib import Path

import pytest

from pillarbox.store import mailboxes, messages
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

COUNT = 1000

SSL_TYPES = {"tls": "IMAPS", "plain": "None"}


def make_message(number: int) -> bytes:
    return b"Subject: message %d\r\nMessage-ID: <%d@example.net>\r\n\r\nNumber %d\r\n" % (
        number,
        number,
        number,
    )


@pytest.fixture
def config(user, transport: str, write, tmp_path: Path) -> Path:
    for name in ("cur", "new", "tmp"):
        (tmp_path / "Mail" / "INBOX" / name).mkdir(parents=True)
    return write(
        "mbsyncrc",
        f"IMAPAccount far\nHost localhost\nPort {user.port('imap', transport)}\n"
        f'User {user.address}\nPass "{user.password}"\nSSLType {SSL_TYPES[transport]}\n'
        f"CertificateFile {user.ca_file}\nAuthMechs PLAIN\n\n"
        "IMAPStore far\nAccount far\n\n"
        f"MaildirStore near\nPath {tmp_path}/Mail/\nInbox {tmp_path}/Mail/INBOX\n"
        "SubFolders Verbatim\n\n"
        "Channel both\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove None\nExpunge Both\n"
        "Sync All\nSyncState *\n",
    )


def put_on_server(user, first: int, last: int) -> None:
    async def append(store: Store) -> None:
        account = store.directory.known_account(user.address).id
        contents = [make_content(make_message(number)) for number in range(first, last)]
        await asyncio.gather(
            *(store.append(account, Append(mailboxes.INBOX, content, 0)) for content in contents)
        )

    user.server.run(append)


def put_in_maildir(folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        octets = make_message(number).replace(b"\r\n", b"\n")
        (folder / "cur" / f"{number}.local:2,").write_bytes(octets)


def state(user) -> tuple[int, int, int]:
    """(messages in INBOX, UIDNEXT, ModSeq): any change raises the last."""

    async def read(store: Store) -> tuple[int, int, int]:
        account = store.directory.known_account(user.address).id
        inbox = await store.read(account, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))
        return inbox.messages, inbox.uidnext, inbox.modseq

    return user.server.run(read)


def subjects_by_uid(client: imaplib.IMAP4) -> dict[bytes, bytes]:
    _, rows = client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    found = {}
    for row in rows:
        if isinstance(row, tuple):
            uid = re.search(rb"UID (\d+)", row[0])
            assert uid is not None
            found[row[1].split()[-1]] = uid[1]
    return found


def by_number(folder: Path) -> dict[int, Path]:
    """The files of a maildir by the number of their message."""
    found = {}
    for path in [*folder.glob("cur/*"), *folder.glob("new/*")]:
        subject = next(line for line in path.read_text().splitlines() if line.startswith("Subject"))
        found[int(subject.split()[-1])] = path
    return found


@pytest.mark.parametrize("transport", SSL_TYPES)
def test_two_way_sync_of_1000_messages(user, program, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Mail" / "INBOX"
    put_on_server(user, 0, COUNT // 2)
    put_in_maildir(folder, COUNT // 2, COUNT)
    mbsync = ("mbsync", "--config", config, "--all")
    program(*mbsync)
    assert state(user)[0] == COUNT
    files = by_number(folder)
    assert sorted(files) == list(range(COUNT))
    for number in (0, COUNT - 1):
        lines = files[number].read_bytes().splitlines()
        lines = [line for line in lines if not line.startswith(b"X-TUID:")]  # mbsync's own mark
        assert lines == make_message(number).splitlines()

    before, names = state(user), sorted(path.name for path in files.values())
    program(*mbsync)
    assert state(user) == before, "a second run transfers nothing"
    assert sorted(path.name for path in by_number(folder).values()) == names

    with imaplib.IMAP4_SSL(
        "localhost", user.server.ports["imaps"], ssl_context=user.server.client_context()
    ) as client:
        client.login(user.address, user.password)
        client.select()
        uids = subjects_by_uid(client)
        client.uid("STORE", uids[b"10"], "+FLAGS", "(\\Flagged \\Seen)")
        client.uid("STORE", uids[b"20"], "+FLAGS", "(\\Deleted)")
        client.uid("STORE", uids[b"%d" % (COUNT - 20)], "+FLAGS", "(\\Deleted)")
        client.expunge()
    for number, flags in ((30, "RS"), (COUNT - 30, "F"), (40, "T")):
        path = by_number(folder)[number]
        base = path.name.partition(":2,")[0]
        path.rename(folder / "cur" / f"{base}:2,{flags}")
    program(*mbsync)

    files = by_number(folder)
    left = sorted(set(range(COUNT)) - {20, COUNT - 20, 40})
    assert sorted(files) == left
    assert files[10].name.endswith(":2,FS")
    assert flags_on_server(user, 30) == {b"\\Answered", b"\\Seen"}
    assert flags_on_server(user, COUNT - 30) == {b"\\Flagged"}
    assert state(user)[0] == len(left)

    before = state(user)
    program(*mbsync)
    assert state(user) == before


def flags_on_server(user, number: int) -> set[bytes]:
    from pillarbox.core import flags
    from pillarbox.store.tx import Tx

    def find(tx: Tx) -> int:
        rows = messages.select(tx, mailboxes.INBOX, [(1, messages.MOST_UIDS)], ("flags", "subject"))
        (found,) = [row[0] for row in rows if row[1].split()[-1] == str(number)]
        return int(found)

    async def read(store: Store) -> int:
        return await store.read(store.directory.known_account(user.address).id, find)

    bits = user.server.run(read)
    return set(flags.SYSTEM_FLAG_TEXT[bits & flags.SYSTEM_MASK].split())

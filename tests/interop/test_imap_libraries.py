"""Programs and libraries that use extensions: imapclient, aioimaplib, imapflow, offlineimap, imapfilter."""

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

MESSAGES = tuple(
    b"From: carol@example.net\r\nTo: user@example.test\r\nSubject: message %d\r\n"
    b"Message-ID: <%d@example.net>\r\n\r\nNumber %d\r\n" % (number, number, number)
    for number in range(1, 6)
)


@pytest.fixture
def imapclient(user) -> Any:
    library = pytest.importorskip("imapclient")
    context = ssl.create_default_context(cafile=str(user.ca_file))
    with library.IMAPClient("localhost", user.port("imap", "tls"), ssl_context=context) as client:
        client.login(user.address, user.password)
        yield client


def test_imapclient_finds_special_folders_and_moves(user, imapclient) -> None:
    user.receive(*MESSAGES)
    assert imapclient.find_special_folder(b"\\Trash") == "Trash"
    imapclient.create_folder("Entwürfe/日本")
    names = {name for _, _, name in imapclient.list_folders()}
    assert {"INBOX", "Sent", "Entwürfe", "Entwürfe/日本"} <= names
    imapclient.select_folder("INBOX")
    uids = imapclient.search(["SUBJECT", "message 3"])
    assert len(uids) == 1
    assert imapclient.has_capability("MOVE")
    imapclient.move(uids, "Entwürfe/日本")
    status = imapclient.folder_status("Entwürfe/日本", ["MESSAGES", "UIDNEXT"])
    assert status == {b"MESSAGES": 1, b"UIDNEXT": 2}
    imapclient.add_flags(imapclient.search(["SUBJECT", "message 4"]), [b"\\Deleted"])
    imapclient.uid_expunge(imapclient.search(["DELETED"]))
    subjects = [
        row[b"ENVELOPE"].subject
        for row in imapclient.fetch(imapclient.search(), ["ENVELOPE"]).values()
    ]
    assert subjects == [b"message 1", b"message 2", b"message 5"]
    assert imapclient.sort(["REVERSE", "SUBJECT"]) == sorted(imapclient.search(), reverse=True)
    assert len(imapclient.thread("REFERENCES")) == 3


def test_imapclient_appends_several_messages_at_once(user, imapclient) -> None:
    _, (answer,) = imapclient.multiappend("Drafts", list(MESSAGES))
    assert answer.startswith(b"[APPENDUID ")
    assert b" 1:5]" in answer
    imapclient.select_folder("Drafts")
    found = imapclient.fetch([2], ["BODY.PEEK[]"])
    assert found[2][b"BODY[]"] == MESSAGES[1]


def test_imapclient_is_told_while_idle(user, imapclient) -> None:
    imapclient.select_folder("INBOX")
    imapclient.idle()
    user.receive(MESSAGES[0])
    told: list[Any] = []
    while not any(line[1:2] == (b"EXISTS",) for line in told):
        more = imapclient.idle_check(timeout=10)
        assert more
        told += more
    text, _ = imapclient.idle_done()
    assert b"completed" in text


def test_imapclient_reads_quotas_and_mod_sequences(user, imapclient) -> None:
    async def limit(store: Any) -> None:
        account = store.directory.known_account(user.address)
        store.directory.quotas.set(account.id, 10 << 20, 100)

    user.server.run(limit)
    roots, quotas = imapclient.get_quota_root("INBOX")
    assert roots.quota_roots == [""]
    assert {(quota.resource, quota.limit) for quota in quotas} == {
        ("STORAGE", 10240),
        ("MESSAGE", 100),
    }
    user.receive(*MESSAGES)
    imapclient.select_folder("INBOX")
    modseqs = [row[b"MODSEQ"][0] for row in imapclient.fetch(range(1, 6), ["MODSEQ"]).values()]
    assert len(set(modseqs)) == 5
    imapclient.add_flags(2, [b"\\Flagged"])
    changed = imapclient.fetch(range(1, 6), ["FLAGS"], [f"CHANGEDSINCE {max(modseqs)}"])
    assert list(changed) == [2]


def test_aioimaplib_is_pushed_new_mail(user) -> None:
    aioimaplib = pytest.importorskip("aioimaplib")
    context = ssl.create_default_context(cafile=str(user.ca_file))

    async def scenario() -> None:
        port = user.port("imap", "tls")
        client = aioimaplib.IMAP4_SSL("localhost", port, timeout=10, ssl_context=context)
        await client.wait_hello_from_server()
        assert (await client.login(user.address, user.password)).result == "OK"
        assert (await client.select()).result == "OK"
        idle = await client.idle_start(timeout=10)
        await asyncio.to_thread(user.receive, MESSAGES[0])
        told = await client.wait_server_push()
        assert b"1 EXISTS" in told
        client.idle_done()
        await asyncio.wait_for(idle, 5)
        assert (await client.uid("move", "1", "Archive")).result == "OK"
        assert b"MESSAGES 1" in b"".join((await client.status("Archive", "(MESSAGES)")).lines)
        answer = await client.append(MESSAGES[1], "Sent", "\\Seen")
        assert answer.result == "OK"
        await client.select("Sent")
        fetched = await client.fetch("1", "(FLAGS BODY.PEEK[])")
        assert MESSAGES[1] in fetched.lines
        await client.logout()

    asyncio.run(scenario())


IMAPFLOW = """
const { ImapFlow } = require('imapflow');
const client = new ImapFlow({host: 'localhost', port: PORT, secure: true, logger: false,
    tls: {ca: require('fs').readFileSync(CA)}, auth: {user: USER, pass: PASS}, qresync: true});
(async () => {
    await client.connect();
    const seen = {enabled: [...client.enabled].sort(), folders: {}, exists: 0};
    for (const box of await client.list({statusQuery: {messages: true}}))
        seen.folders[box.path] = [box.specialUse || '', box.status.messages];
    const lock = await client.getMailboxLock('INBOX');
    seen.highestModseq = typeof client.mailbox.highestModseq;
    seen.subjects = [];
    for await (const message of client.fetch('1:*', {envelope: true, flags: true, bodyStructure: true}))
        seen.subjects.push(message.envelope.subject);
    await client.messageFlagsAdd({seq: '2'}, ['\\\\Flagged']);
    seen.flagged = await client.search({flagged: true}, {uid: true});
    seen.moved = (await client.messageMove({subject: 'message 1'}, 'Archive')).uidMap.size;
    seen.appended = (await client.append('Drafts', 'Subject: x\\r\\n\\r\\nx', ['\\\\Draft'])).uid;
    seen.quota = (await client.getQuota('INBOX')).storage.limit;
    lock.release();
    await client.logout();
    console.log(JSON.stringify(seen));
})().catch(error => { console.error(error); process.exit(1); });
"""


def test_imapflow_uses_condstore_special_folders_and_moves(user, write, tmp_path: Path) -> None:
    modules = Path(__file__).parent / "node_modules"
    if shutil.which("node") is None or not (modules / "imapflow").exists():
        pytest.skip("node or imapflow is not installed (make interop-deps)")

    async def limit(store: Any) -> None:
        store.directory.quotas.set(store.directory.known_account(user.address).id, 10 << 20, None)

    user.server.run(limit)
    user.receive(*MESSAGES)
    values = {
        "PORT": user.port("imap", "tls"),
        "CA": str(user.ca_file),
        "USER": user.address,
        "PASS": user.password,
    }
    head = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    script = write("client.js", head + IMAPFLOW)
    done = subprocess.run(
        ["node", script],
        env={"NODE_PATH": str(modules), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout)
    assert "QRESYNC" in seen["enabled"] or "CONDSTORE" in seen["enabled"]
    assert seen["folders"]["INBOX"] == ["\\Inbox", 5]
    assert seen["folders"]["Sent"] == ["\\Sent", 0]
    assert seen["highestModseq"] == "bigint"
    assert seen["subjects"] == [f"message {number}" for number in range(1, 6)]
    assert seen["flagged"] == [2]
    assert seen["moved"] == 1
    assert seen["appended"] == 1
    assert seen["quota"] == 10 << 20


def test_imapfilter_sorts_mail_into_folders(user, program, write) -> None:
    user.receive(*MESSAGES)
    config = write(
        "filter.lua",
        f"""
account = IMAP {{server = 'localhost', port = {user.port("imap", "tls")}, ssl = 'auto',
    username = '{user.address}', password = '{user.password}'}}
account.INBOX:contain_subject('message 2'):move_messages(account.Archive)
account.INBOX:contain_body('Number 3'):copy_messages(account.Junk)
account.INBOX:contain_from('carol'):mark_seen()
account.INBOX:contain_subject('message 5'):delete_messages()
""",
    )
    program("imapfilter", "-t", user.ca_file, "-c", config)

    import imaplib

    context = ssl.create_default_context(cafile=str(user.ca_file))
    with imaplib.IMAP4_SSL("localhost", user.port("imap", "tls"), ssl_context=context) as client:
        client.login(user.address, user.password)
        for name, count, unseen in (("Archive", 1, 1), ("Junk", 1, 1), ("INBOX", 3, 0)):
            _, (status,) = client.status(name, "(MESSAGES UNSEEN)")
            assert status.endswith(b"(MESSAGES %d UNSEEN %d)" % (count, unseen)), status


def test_offlineimap_mirrors_both_ways(user, program, write, tmp_path: Path) -> None:
    user.receive(*MESSAGES)
    config = write(
        "offlineimaprc",
        f"""
[general]
accounts = both
ui = quiet
[Account both]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {tmp_path}/Mail
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {user.port("imap", "tls")}
ssl = yes
sslcacertfile = {user.ca_file}
remoteuser = {user.address}
remotepass = {user.password}
""",
    )
    program("offlineimap", "-c", config, "-o")
    inbox = tmp_path / "Mail" / "INBOX"
    files = [*inbox.glob("new/*"), *inbox.glob("cur/*")]
    assert len(files) == 5
    assert (tmp_path / "Mail" / "Sent").is_dir()
    new = tmp_path / "Mail" / "Drafts" / "cur" / "1.local:2,S"
    new.write_bytes(b"Subject: of here\n\nhello\n")
    files[0].unlink()
    program("offlineimap", "-c", config, "-o")

    import imaplib

    context = ssl.create_default_context(cafile=str(user.ca_file))
    with imaplib.IMAP4_SSL("localhost", user.port("imap", "tls"), ssl_context=context) as client:
        client.login(user.address, user.password)
        assert client.select("INBOX")[1] == [b"4"]
        assert client.select("Drafts")[1] == [b"1"]
        _, rows = client.fetch("1", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert rows[0][1].startswith(b"Subject: of here")

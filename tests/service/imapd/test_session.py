"""What transcripts cannot say: TLS, large and slow things, bugs, shared views, real clients."""

import asyncio
import imaplib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from imap_harness import PASSWORD, SIMPLE, USER, Imap, Line, serving

from pillarbox.auth.peer import Login
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.imapd import table
from pillarbox.imapd.client import Answer, Client
from pillarbox.imapd.table import Row
from pillarbox.store.accounts import account_path
from pillarbox.store.spool import Spool
from pillarbox.store.store import Store, remove_account_files

LARGE = (
    b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    + b"".join(b"%070d\r\n" % number for number in range(40_000))
)
NO_COMMON_FIELDS_APART = b"Subject: a\r\n" + b"To: b@example.com\r\n" * 2000 + b"\r\nx"


def in_service(tmp_path: Path, test: Any, tls: ssl.SSLContext | None = None) -> None:
    async def run() -> None:
        async with serving(tmp_path, tls) as imap:
            await test(imap)

    asyncio.run(run())


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server and for a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def literal_of(response: bytes) -> bytes:
    """What stands in the first literal of a response."""
    head, _, rest = response.partition(b"}\r\n")
    return rest[: int(head.rpartition(b"{")[2])]


def test_after_starttls_login_is_offered(
    tmp_path: Path, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def test(imap: Imap) -> None:
        imap.context.allow_cleartext_login = False
        client = await imap.connect()
        assert b"LOGINDISABLED" in await client.read()
        await client.ok(b"STARTTLS")
        await client.writer.start_tls(contexts[1], server_hostname="localhost")
        (capability,) = await client.ok(b"CAPABILITY")
        assert b"AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN" in capability
        assert b"STARTTLS" not in capability
        assert b"LOGINDISABLED" not in capability
        await client.ok(f"LOGIN {USER} {PASSWORD}".encode())
        client.close()

    in_service(tmp_path, test, contexts[0])


@pytest.mark.parametrize(
    ("item", "start", "end"),
    [
        (b"BODY.PEEK[]", 0, None),
        (b"BODY.PEEK[TEXT]", LARGE.index(b"--b"), None),
        (b"BODY.PEEK[]<10.2000000>", 10, 2_000_010),
        (b"BODY.PEEK[]<2800000.900000>", 2_800_000, None),
        (b"BODY.PEEK[1]<600000.10>", 600_000 + LARGE.index(b"000"), 600_010 + LARGE.index(b"000")),
        (b"BODY.PEEK[HEADER.FIELDS (X-None)]", len(LARGE), None),
    ],
)
def test_large_messages_come_whole_and_in_part(
    tmp_path: Path, item: bytes, start: int, end: int | None
) -> None:
    async def test(imap: Imap) -> None:
        for message in (SIMPLE, LARGE, SIMPLE):
            await imap.put(message)
        client = await imap.login(b"INBOX")
        lines = await client.ok(b"FETCH 1:3 (UID %b)" % item)
        assert [line.split()[:5] for line in lines] == [
            [b"*", b"%d" % number, b"FETCH", b"(UID", b"%d" % number] for number in (1, 2, 3)
        ]
        expected = LARGE[start:end] if start < len(LARGE) else b"\r\n"
        assert literal_of(lines[1]) == expected
        assert lines[1].endswith(expected + b")")

    in_service(tmp_path, test)


def test_fields_that_are_not_stored_apart_are_found_in_the_header(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        for message in (SIMPLE, NO_COMMON_FIELDS_APART):
            await imap.put(message)
        client = await imap.login(b"INBOX")
        lines = await client.ok(b"FETCH 1:2 BODY.PEEK[HEADER.FIELDS (Subject)]")
        assert [literal_of(line) for line in lines] == [
            b"Subject: lunch\r\n\r\n",
            b"Subject: a\r\n\r\n",
        ]

    in_service(tmp_path, test)


def test_a_slow_reader_holds_up_nobody_and_loses_nothing(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        for _ in range(8):
            await imap.put(LARGE)
        slow, quick = await imap.login(b"INBOX"), await imap.login(b"INBOX")
        await slow.send(b"x FETCH 1:* BODY.PEEK[]")
        await asyncio.sleep(0.05)
        await asyncio.wait_for(quick.ok(b"NOOP"), 1)
        for _ in range(8):
            assert literal_of(await slow.response()) == LARGE
        assert await slow.read() == b"x OK Fetch completed."

    in_service(tmp_path, test)


def test_a_fetch_goes_on_when_the_client_is_gone(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        for _ in range(8):
            await imap.put(LARGE)
        client = await imap.login(b"INBOX")
        await client.send(b"x FETCH 1:* BODY.PEEK[]")
        await client.read()
        client.writer.transport.abort()
        other = await imap.login(b"INBOX")
        await other.ok(b"NOOP")

    in_service(tmp_path, test)


@pytest.mark.parametrize("size", [300_000, 1_500_000])
def test_a_large_append_is_stored_octet_for_octet(tmp_path: Path, size: int) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        message = b"Subject: x\r\n\r\n" + b"y\0z\xff" * (size // 4)
        await client.append(b"INBOX", message)
        (line,) = await client.ok(b"FETCH 1 BODY.PEEK[]")
        assert literal_of(line) == message.replace(b"\0", b"\x80")
        assert imap.context.spool_room.used == 0

    in_service(tmp_path, test)


async def until(condition: Callable[[], bool]) -> None:
    """Within 10 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become so")


def test_a_connection_lost_within_append_leaves_no_spool(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.send(b"x APPEND INBOX {100000+}\r\n" + b"y" * 50_000)
        room = imap.context.spool_room
        await until(lambda: room.used > 0)
        client.close()
        await until(lambda: room.used == 0)

    in_service(tmp_path, test)


def test_a_full_disk_refuses_the_message_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def test(imap: Imap) -> None:
        client = await imap.login()
        monkeypatch.setattr(Spool, "flush", full)
        *_, answer = await client.command(b"APPEND INBOX {9+}\r\nSubject: ")
        assert answer.startswith(b"NO [UNAVAILABLE]")
        monkeypatch.undo()
        await client.append(b"INBOX", SIMPLE)

    in_service(tmp_path, test)


def test_a_bug_is_answered_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(client: Client, args: Any) -> Answer:
        raise ZeroDivisionError

    async def test(imap: Imap) -> None:
        client = await imap.login()
        monkeypatch.setitem(table.COMMANDS, "CHECK", Row(buggy))  # type: ignore[arg-type]
        await client.ok(b"SELECT INBOX")
        assert (await client.command(b"CHECK"))[-1].startswith(b"NO [SERVERBUG]")
        await client.ok(b"NOOP")

    in_service(tmp_path, test)


def test_what_cannot_be_read_now_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise Unavailable("the disk is slow")

    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        with monkeypatch.context() as patch:
            patch.setattr(Store, "read", broken)
            answer = await client.command(b"STATUS INBOX (MESSAGES)")
            assert answer == [b"NO [UNAVAILABLE] The disk is slow"]
        await client.ok(b"NOOP")

    in_service(tmp_path, test)


def test_sessions_with_equal_views_share_one_array(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        for _ in range(3):
            await imap.put(SIMPLE)
        clients = [await imap.login(b"INBOX") for _ in range(3)]
        await imap.put(SIMPLE)
        for client in clients:
            assert (await client.ok(b"NOOP"))[0] == b"* 4 EXISTS"
        uids = imap.context.snapshots.find(imap.account, 1, 5, 4)
        assert uids is not None
        assert list(uids) == [1, 2, 3, 4]

    in_service(tmp_path, test)


def test_too_many_failed_logins_end_the_connection(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.connect()
        await client.read()
        answers = [(await client.command(b"LOGIN nobody x"))[0] for _ in range(10)]
        assert answers[-1] == b"* BYE Too many failed logins"
        assert answers[0].startswith(b"NO [AUTHENTICATIONFAILED]")

    in_service(tmp_path, test)


def test_an_account_on_another_server_is_referred(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        account = imap.store.directory.account(USER)
        assert account is not None
        account.referral = "imap://user@other.example/"

        async def login(*_: Any) -> Any:
            return Login(account)

        imap.context.authenticator.login = login  # type: ignore[method-assign]
        client = await imap.connect()
        await client.read()
        answer = await client.command(b"LOGIN a b")
        assert answer[0].startswith(b"NO [REFERRAL imap://user@other.example/]")

    in_service(tmp_path, test)


def test_many_messages_come_in_order_and_numbered(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        await asyncio.gather(*(imap.put(b"Subject: %d\r\n\r\n" % n) for n in range(1, 701)))
        client = await imap.login(b"INBOX")
        await client.ok(b"UID STORE 5,300:302 +FLAGS.SILENT (\\Deleted)")
        await client.ok(b"EXPUNGE")
        for items in (b"UID", b"UID ENVELOPE", b"UID BODY.PEEK[]"):
            lines = await client.ok(b"FETCH 1:* (%b)" % items)
            assert [int(line.split()[1]) for line in lines] == list(range(1, 697))
            uids = [int(line.split()[4].strip(b")")) for line in lines]
            assert uids == [n for n in range(1, 701) if n not in (5, 300, 301, 302)]
        lines = await client.ok(b"UID FETCH 1:699:2 UID".replace(b"1:699:2", b"2,4,6,8,298:303"))
        assert [int(line.split()[1]) for line in lines] == [2, 4, 5, 7, 297, 298, 299]

    in_service(tmp_path, test)


def test_stopping_the_server_says_bye(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            client: Line = await imap.login(b"INBOX")
            await client.send(b"a IDLE")
            assert await client.read() == b"+ idling"
        assert (await client.read()).startswith(b"* BYE")

    asyncio.run(run())


def test_imaplib_can_do_a_days_work(tmp_path: Path) -> None:
    def work(port: int) -> None:
        with imaplib.IMAP4("127.0.0.1", port) as client:
            client.login(USER, PASSWORD)
            client.create("work")
            client.append("work", r"(\Flagged)", None, SIMPLE)
            assert client.select("work")[1] == [b"1"]
            assert client.search(None, "FLAGGED")[1] == [b"1"]
            data = client.fetch("1", "(RFC822)")[1]
            assert isinstance(data[0], tuple)
            assert data[0][1] == SIMPLE
            client.copy("1", "Archive")
            client.store("1", "+FLAGS", r"\Deleted")
            assert client.expunge()[1] == [b"1"]
            client.close()
            assert client.status("Archive", "(MESSAGES)")[1] == [b"Archive (MESSAGES 1)"]

    async def test(imap: Imap) -> None:
        await asyncio.to_thread(work, imap.port)

    in_service(tmp_path, test)


def test_mail_can_be_read_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.append(b"INBOX", SIMPLE)

        async def full(store: Store, account: int, work: Any) -> Any:
            raise DiskFull

        monkeypatch.setattr(Store, "write_lazily", full)
        assert b"* 1 RECENT" in await client.ok(b"SELECT INBOX")
        assert len(await client.ok(b"FETCH 1 BODY.PEEK[]")) == 1
        client.close()

    in_service(tmp_path, test)


def test_a_close_that_could_not_be_kept_leaves_the_mailbox_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the commit: what CLOSE would have expunged is there, under its number (RFC 9051 §6.4.1)."""

    async def test(imap: Imap) -> None:
        client = await imap.login()
        for _ in range(2):
            await client.append(b"INBOX", SIMPLE)
        await client.ok(b"SELECT INBOX")
        await client.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        write = Store.write

        async def full(store: Store, account: int, work: Any) -> Any:
            def undone(tx: Any) -> Any:
                work(tx)
                raise DiskFull

            return await write(store, account, undone)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", full)
            assert (await client.command(b"CLOSE"))[-1].startswith(b"NO")
        assert await client.ok(b"FETCH 1:2 (FLAGS)") == [
            b"* 1 FETCH (FLAGS (\\Deleted \\Recent))",
            b"* 2 FETCH (FLAGS (\\Recent))",
        ]
        client.close()

    in_service(tmp_path, test)


def test_a_full_disk_keeps_nobody_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mail is sent; that it is not marked as read is said (RFC 3501 §7.1.1: the text is for people)."""

    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.append(b"INBOX", SIMPLE)
        await client.ok(b"SELECT INBOX")

        async def full(*_args: Any, **_more: Any) -> Any:
            raise DiskFull

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", full)
            *told, last = await client.command(b"FETCH 1 (FLAGS BODY[])")
        assert SIMPLE in told[0]
        assert b"\\Seen" not in told[0]
        assert last == b"OK Fetch completed; \\Seen is not set: the disk is full."
        client.close()

    in_service(tmp_path, test)


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_removed_account_is_told_from_a_lost_mail_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_removed: bool
) -> None:
    """In the second until the server ends the session."""

    async def test(imap: Imap) -> None:
        ann = await imap.login(user="ann@example.com")
        await ann.ok(b"SETACL INBOX user@example.com lr")
        await ann.ok(b"SELECT INBOX")
        client = await imap.login()
        await client.ok(b'SELECT "Other Users.ann@example^2Ecom.INBOX"')
        account = imap.store.directory.account("ann@example.com")
        assert account is not None
        if is_removed:
            imap.store.directory.remove_account(account.id)
            remove_account_files(imap.store.data_dir, account.id)
        else:
            account_path(imap.store.data_dir / "accounts", account.id).unlink()
        code = b"NONEXISTENT" if is_removed else b"CORRUPTION"
        for line in (b"CREATE new", b"SUBSCRIBE new"):
            assert (await ann.command(line))[-1].startswith(b"NO [%b] The " % code)
        await ann.command(b"NOOP")
        await client.command(b"NOOP")

    in_service(tmp_path, test)
    found = [each.getMessage() for each in caplog.records if each.levelname != "INFO"]
    assert bool(found) is not is_removed, found

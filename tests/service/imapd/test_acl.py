"""Mailboxes of other accounts: nothing is seen or done without a right (RFC 4314), tried from outside."""

import asyncio
from pathlib import Path

import pytest
from imap_harness import OTHERS, SIMPLE, USER, Imap, Line, serving

from pillarbox.core.errors import Refused
from pillarbox.imapd.table import COMMANDS
from pillarbox.store import acl, mailboxes

ANN, BOB = OTHERS
INBOX = b'"Other Users.user@example^2Ecom.INBOX"'
NOBODYS = b'"Other Users.nobody@example^2Ecom.INBOX"'

NAMING = {
    "SELECT": b"SELECT %b",
    "EXAMINE": b"EXAMINE %b",
    "DELETE": b"DELETE %b",
    "CREATE": b"CREATE %b",
    "RENAME": b"RENAME %b mine",
    "STATUS": b"STATUS %b (MESSAGES)",
    "COPY": b"COPY 1 %b",
    "MOVE": b"MOVE 1 %b",
    "GETQUOTAROOT": b"GETQUOTAROOT %b",
    "GETMETADATA": b"GETMETADATA %b /shared/comment",
    "SETMETADATA": b'SETMETADATA %b (/shared/comment "x")',
    "SETACL": b"SETACL %b ann lrswipkxtea",
    "DELETEACL": b"DELETEACL %b ann",
    "GETACL": b"GETACL %b",
    "LISTRIGHTS": b"LISTRIGHTS %b ann",
    "MYRIGHTS": b"MYRIGHTS %b",
    "APPEND": b"APPEND %b {3+}\r\na:b",
    "REPLACE": b"REPLACE 1 %b {3+}\r\na:b",
}
"""Every command that names a mailbox which must be there, but LIST and the like."""


def run(folder: Path, work) -> None:
    async def serve() -> None:
        async with serving(folder) as imap:
            await imap.put(SIMPLE)
            await work(imap)

    asyncio.run(serve())


async def _give(imap: Imap, rights: bytes, mailbox: bytes = b"INBOX", who: bytes = b"ann") -> None:
    owner = await imap.login()
    await owner.ok(b"SETACL %b %b %b" % (mailbox, who, rights or b'""'))
    owner.close()


async def _ann(imap: Imap) -> Line:
    ann = await imap.login(user=ANN)
    await ann.append(b"INBOX", SIMPLE)
    await ann.ok(b"SELECT INBOX")
    return ann


def test_a_row_that_needs_no_right_cannot_name_a_foreign_mailbox() -> None:
    named = {name for name, row in COMMANDS.items() if row.needs.names_mailbox or row.needs.parent}
    assert named | {"APPEND", "REPLACE"} == set(NAMING)


@pytest.mark.parametrize("rights", [b"", b"p", b"swte"])
def test_without_a_right_a_mailbox_is_as_if_it_were_not(tmp_path: Path, rights: bytes) -> None:
    async def work(imap: Imap) -> None:
        if rights:
            await _give(imap, rights)
        for command in NAMING.values():
            ann = await _ann(imap)
            *_, known = await ann.command(command % INBOX)
            *_, unknown = await ann.command(command % NOBODYS)
            assert known == unknown, command
            assert known.startswith(b"NO [NONEXISTENT]"), command
            assert not await ann.ok(b'LIST "" "Other Users*"')
            assert not await ann.ok(b'LIST (SUBSCRIBED) "" "Other Users*"')
            ann.close()
        count = await imap.store.read(imap.account, lambda tx: mailboxes.by_id(tx, 1).messages)
        assert count == 1

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (b"SELECT %b", "r"),
        (b"STATUS %b (MESSAGES)", "r"),
        (b"COPY 1 %b", "i"),
        (b"MOVE 1 %b", "i"),
        (b"APPEND %b {3+}\r\na:b", "i"),
        (b"GETACL %b", "a"),
        (b"SETACL %b bob l", "a"),
        (b"DELETEACL %b bob", "a"),
        (b"LISTRIGHTS %b bob", "a"),
        (b"GETQUOTAROOT %b", "r"),
    ],
)
def test_each_command_needs_its_right_and_no_other(
    tmp_path: Path, command: bytes, needed: str
) -> None:
    async def work(imap: Imap) -> None:
        others = "".join(right for right in acl.RIGHTS if right != needed)
        await _give(imap, others.encode())
        ann = await _ann(imap)
        assert (await ann.command(command % INBOX))[-1].startswith(b"NO [NOPERM]")
        await _give(imap, needed.encode())
        assert (await ann.command(command % INBOX))[-1].startswith(b"OK"), command

    run(tmp_path, work)


def test_a_removed_account_leaves_nothing_to_the_next_with_its_address(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lrswipkxtea")
        directory = imap.store.directory
        ann = directory.account(ANN)
        assert ann is not None
        hashes = directory.credentials.password(ann.id)
        directory.remove_account(ann.id)
        directory.add_account(ANN, *hashes)
        client = await _ann(imap)
        assert (await client.command(b"SELECT " + INBOX))[-1].startswith(b"NO [NONEXISTENT]")
        owner = await imap.login()
        assert await owner.ok(b"GETACL INBOX") == [b"* ACL INBOX user@example.com lrswipkxteacd"]

    run(tmp_path, work)


def test_idle_in_a_shared_mailbox_tells_of_mail_and_ends_when_it_is_shared_no_more(
    tmp_path: Path,
) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lr")
        ann = await imap.login(user=ANN)
        await ann.ok(b"SELECT " + INBOX)
        await ann.send(b"i IDLE")
        assert (await ann.read()).startswith(b"+")
        await imap.put(SIMPLE)
        assert await ann.read() == b"* 2 EXISTS"
        await ann.read()
        await _give(imap, b"")
        assert (await ann.read()).startswith(b"* BYE")

    run(tmp_path, work)


def test_the_owner_keeps_recent_when_others_look(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lrswi")
        ann = await imap.login(user=ANN)
        await ann.ok(b"SELECT " + INBOX)
        owner = await imap.login()
        assert b"* 1 RECENT" in await owner.ok(b"SELECT INBOX")

    run(tmp_path, work)


def test_move_to_another_account_keeps_flags_date_and_octets(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lrsiwte")
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 150_000
        ann = await imap.login(user=ANN)
        await ann.append(b"INBOX", SIMPLE, b"(\\Flagged note)")
        await ann.append(b"INBOX", large)
        await ann.ok(b"SELECT INBOX")
        before = await ann.ok(b"FETCH 1:2 (FLAGS INTERNALDATE BODY.PEEK[])")
        lines = await ann.command(b"MOVE 1:2 " + INBOX)
        assert lines[0].startswith(b"* OK [COPYUID ")
        assert lines[0].endswith(b" 1:2 2:3] Moved.")
        assert lines[1:3] == [b"* 2 EXPUNGE", b"* 1 EXPUNGE"]
        assert lines[-1] == b"OK Move completed."
        await ann.ok(b"SELECT " + INBOX)
        after = await ann.ok(b"FETCH 2:3 (FLAGS INTERNALDATE BODY.PEEK[])")
        cut = [
            line.replace(b" \\Recent", b"").replace(b"\\Recent", b"")
            for line in before + after
            if b" FETCH " in line
        ]
        assert [line.split(b" ", 2)[2] for line in cut[:2]] == [
            line.split(b" ", 2)[2] for line in cut[2:]
        ]
        # and back
        assert (await ann.command(b"MOVE 2:3 INBOX"))[-1] == b"OK Move completed."
        rows = await imap.store.read(imap.account, lambda tx: mailboxes.by_id(tx, 1))
        assert rows.messages == 1

    run(tmp_path, work)


def test_what_others_put_in_counts_for_the_owner(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lri")
        imap.store.directory.quotas.set(imap.account, None, 2)
        ann = await _ann(imap)
        await ann.ok(b"COPY 1 " + INBOX)
        for command in (b"COPY 1 ", b"MOVE 1 "):
            assert (await ann.command(command + INBOX))[-1].startswith(b"NO [OVERQUOTA]")
        assert (await ann.command(b"APPEND %b {3+}\r\na:b" % INBOX))[-1].startswith(
            b"NO [OVERQUOTA]"
        )
        assert (await ann.ok(b"UID SEARCH ALL")) == [b"* SEARCH 1"]

    run(tmp_path, work)


def test_too_many_messages_at_once_for_another_account_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.imapd.extensions.between.MOST_MESSAGES", 1)

    async def work(imap: Imap) -> None:
        await _give(imap, b"lri")
        ann = await _ann(imap)
        await ann.append(b"INBOX", SIMPLE)
        await ann.ok(b"NOOP")
        assert (await ann.command(b"COPY 1:2 " + INBOX))[-1].startswith(b"NO [LIMIT]")

    run(tmp_path, work)


def test_qresync_and_the_search_index_work_in_a_shared_mailbox(tmp_path: Path) -> None:
    async def work(imap: Imap) -> None:
        await _give(imap, b"lrswte")
        owner = await imap.login(b"INBOX")
        await imap.put(SIMPLE)
        ann = await imap.login(user=ANN)
        await ann.ok(b"ENABLE QRESYNC")
        lines = await ann.ok(b"SELECT " + INBOX)
        codes = b" ".join(lines)
        uidvalidity = codes.split(b"UIDVALIDITY ")[1].split(b"]")[0]
        modseq = codes.split(b"HIGHESTMODSEQ ")[1].split(b"]")[0]
        await ann.ok(b"UNSELECT")
        await owner.ok(b"STORE 1 +FLAGS (\\Deleted)")
        await owner.ok(b"EXPUNGE")
        await owner.ok(b"STORE 1 +FLAGS (\\Flagged)")
        lines = await ann.ok(b"SELECT %b (QRESYNC (%b %b))" % (INBOX, uidvalidity, modseq))
        assert b"* VANISHED (EARLIER) 1" in lines
        assert any(line.startswith(b"* 1 FETCH (UID 2 FLAGS (\\Flagged") for line in lines)
        assert await ann.ok(b"SEARCH TEXT noon") == [b"* SEARCH 1"]
        assert await ann.ok(b"ESEARCH IN (selected personal) ALL") == [
            b'* ESEARCH (TAG "t7" MAILBOX %b UIDVALIDITY %b) UID ALL 2' % (INBOX, uidvalidity)
        ]

    run(tmp_path, work)


def test_a_message_of_a_shared_mailbox_is_no_part_of_a_message_of_ones_own_without_r(
    tmp_path: Path,
) -> None:
    """RFC 4469 §3: what a URL names must be readable; other accounts cannot be named at all."""

    async def work(imap: Imap) -> None:
        await _give(imap, b"l")
        ann = await imap.login(user=ANN)
        url = b"/Other%20Users.user@example%5E2Ecom.INBOX/;UID=1"
        lines = await ann.command(b'APPEND INBOX CATENATE (URL "%b")' % url)
        assert b"NO [BADURL" in lines[-1]

    run(tmp_path, work)


def test_search_in_ones_own_mailboxes_finds_nothing_of_a_foreign_selected_one(
    tmp_path: Path,
) -> None:
    """Both have the number 1 in their files."""

    async def work(imap: Imap) -> None:
        await _give(imap, b"lr")
        ann = await imap.login(user=ANN)
        await ann.ok(b"SELECT " + INBOX)
        assert await ann.ok(b"ESEARCH IN (inboxes) ALL") == []
        assert (await ann.ok(b"DELETE Trash")) == []
        await ann.ok(b"FETCH 1 FLAGS")

    run(tmp_path, work)


def test_a_list_of_many_shared_mailboxes_goes_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl, "SHARED_A_SLICE", 2)

    async def work(imap: Imap) -> None:
        await _give(imap, b"l", b"INBOX", b"anyone")
        owner = await imap.login()
        for number in range(5):
            await owner.ok(b"CREATE INBOX.%d" % number)
        ann = await imap.login(user=ANN)
        lines = await ann.ok(b'LIST "" "Other Users.*"')
        assert len(lines) == 7  # the owner's name, INBOX and what is below it

    run(tmp_path, work)


def test_a_store_takes_no_right_of_the_owner_and_not_too_many_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl, "MOST_ENTRIES", 1)

    async def work(imap: Imap) -> None:
        await imap.store.share(imap.account, 1, 98, "+", "rl")
        with pytest.raises(Refused, match="at most 1 others"):
            await imap.store.share(imap.account, 1, 99, "+", "rl")
        assert await imap.store.read(imap.account, lambda tx: acl.entries(tx, 1)) == [(98, "lr")]
        await imap.store.share(imap.account, 1, 98, "-", "lr")
        assert not imap.store.directory.shares(imap.account, 98)
        assert imap.store.directory.account(USER) is not None

    run(tmp_path, work)

"""Names that are meant as paths, as SQL, as patterns, or as somebody else's, in all that takes names."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attacked import BOB, Attacked, Wire, attacked

from pillarbox.store.check import check_store

PATHS = (
    b"../../../../../../tmp/evil",
    b"..",
    b".",
    b"../bob",
    b"a/../../b",
    b"/etc/passwd",
    b"//",
    b"a//b",
    b"~root/evil",
    b"C:\\evil",
    b"..\\..\\evil",
    b"%2e%2e%2fevil",
    b"a\0.db",
    b"\0",
    b"a\x7fb",
    b"a\r\nb",
    b"x" * 60_000,
    b"/".join([b"d"] * 5_000),
    b"x/" * 100,
    b"&AAA-",
    b"&//8-",
    b"&AC4ALg-/&AC4ALg-",
    b"CON",
    b"directory.db",
    b"../directory.db",
    b"$(touch evil)",
    b"`touch evil`",
    b"| touch evil",
)
SQL = (
    b"' OR 1=1 --",
    b"a'; DROP TABLE message; --",
    b'a"; DROP TABLE mailbox; --',
    b"a' UNION SELECT * FROM account --",
    b"%",
    b"_",
    b"a\\",
    b"?1",
    b":name",
    b"NULL",
    b"1; ATTACH DATABASE 'evil.db' AS evil",
    b"x' || load_extension('evil') || '",
)


def run(folder: Path, work: Callable[[Attacked], Awaitable[None]]) -> None:
    async def main() -> None:
        async with attacked(folder) as server:
            await work(server)

    asyncio.run(main())
    assert not list(check_store(folder / "data"))


def quoted(name: bytes) -> bytes:
    """As a literal that does not wait: any octets can be in it."""
    return b"{%d+}\r\n%b" % (len(name), name)


async def command(imap: Wire, text: bytes) -> tuple[list[bytes], bytes]:
    """Untagged responses, with their literals, and the tagged line."""
    imap.send(b"q " + text + b"\r\n")
    found = []
    while True:
        line = await imap.line()
        assert line, text
        while literal := re.search(rb"\{(\d+)\}\r\n$", line):
            line += await imap.reader.readexactly(int(literal[1])) + await imap.line()
        if line.startswith(b"q "):
            return found, line
        found.append(line)


def files_of(folder: Path) -> set[str]:
    return {
        str(Path(root, name).relative_to(folder))
        for root, _folders, names in os.walk(folder)
        for name in names
    }


@pytest.mark.parametrize("names", [PATHS, SQL], ids=["paths", "SQL"])
def test_names_of_mailboxes_are_never_paths_nor_code(
    tmp_path: Path, names: tuple[bytes, ...]
) -> None:
    """They are made and are then but names, or are refused; no file has one, and bob notices nothing."""

    async def work(server: Attacked) -> None:
        bob = await server.imap(BOB)
        before, _ = await command(bob, b'LIST "" *')
        for name in names:
            imap = await server.imap()
            _, made = await command(imap, b"CREATE " + quoted(name))
            assert made[:5] in (b"q OK ", b"q NO ", b"q BAD"), (name, made)
            is_made = made.startswith(b"q OK")
            _, answer = await command(imap, b"STATUS %b (MESSAGES)" % quoted(name))
            assert answer.startswith(b"q OK") or not is_made, (name, answer)
            for text in (
                b"SUBSCRIBE %b",
                b"APPEND %b {9+}\r\na: b\r\n\r\nc",
                b"EXAMINE %b",
                b"FETCH 1 BODY.PEEK[]",
                b'LIST "" %b',
                b"LIST %b *",
                b"GETMETADATA %b /private/comment",
                b"RENAME %b renamed",
                b"RENAME renamed %b",
                b"CLOSE",
            ):
                _, answer = await command(imap, text.replace(b"%b", quoted(name)))
                assert answer[:5] in (b"q OK ", b"q NO ", b"q BAD"), (name, text, answer)
                assert b"SERVERBUG" not in answer, (name, text, answer)
            _, answer = await command(imap, b"DELETE " + quoted(name))
            assert b"SERVERBUG" not in answer, (name, answer)
            imap.close()
        assert (await command(bob, b'LIST "" *'))[0] == before
        assert (await command(bob, b"NOOP"))[1].startswith(b"q OK")

    run(tmp_path, work)
    assert "evil" not in " ".join(files_of(tmp_path))
    assert all(
        re.fullmatch(r"accounts/[0-9a-f]{2}/[0-9a-f]{8}\.(db|db-wal|db-shm|lock|idx)", name)
        for name in files_of(tmp_path / "data")
        if name.startswith("accounts")
    )


def test_what_is_searched_for_is_never_code(tmp_path: Path) -> None:
    """Nor a pattern: it is found where it stands, to the letter, and nowhere else."""

    async def search(imap: Wire, text: bytes) -> None:
        message = b"Subject: %b\r\nX-Test: %b\r\n\r\n%b\r\n" % (text, text, text)
        for octets in (message, b"Subject: other\r\n\r\nabc\r\n"):
            await command(imap, b"APPEND INBOX " + quoted(octets))
        await command(imap, b"SELECT INBOX")
        for key in (b"SUBJECT", b"HEADER X-Test", b"BODY", b"TEXT"):
            found, answer = await command(imap, b"SEARCH %b %b" % (key, quoted(text)))
            assert answer.startswith(b"q OK"), answer
            assert found == [b"* SEARCH 1\r\n"], (key, found)
        for keyword in (b"a'--", b"a;DROP"):
            await command(imap, b"STORE 1 +FLAGS (%b)" % keyword)
            found, _ = await command(imap, b"SEARCH KEYWORD " + keyword)
            assert found == [b"* SEARCH 1\r\n"], (keyword, found)
        for annotation in (
            b"SETMETADATA INBOX (/private/comment %b)",
            b'SETMETADATA "" (/private/x%b "y")',
        ):
            _, answer = await command(imap, annotation.replace(b"%b", quoted(text)))
            assert b"SERVERBUG" not in answer
        await command(imap, b"STORE 1:* +FLAGS (\\Deleted)")
        await command(imap, b"EXPUNGE")

    async def work(server: Attacked) -> None:
        imap = await server.imap()
        for text in SQL:
            await search(imap, text)

    run(tmp_path, work)


def test_addresses_are_never_code(tmp_path: Path) -> None:
    async def send(server: Attacked, text: bytes) -> None:
        smtp = await server.smtp()
        await smtp.ask(b"MAIL FROM:<>")
        local = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        for recipient in (b'"%b"@example.test', b'"alice+%b"@example.test', b'"%b"@far.example'):
            answer = await smtp.ask(b"RCPT TO:<%b>" % recipient.replace(b"%b", local))
            assert answer[:3] in (b"250", b"550", b"501", b"553"), answer
            assert answer.startswith(b"250") == recipient.startswith(b'"alice+'), (
                recipient,
                answer,
            )
        pop3 = await server.greeted("pop3")
        await pop3.ask(b"USER " + text)
        assert (await pop3.ask(b"PASS " + text)).startswith(b"-ERR")
        smtp.close()
        pop3.close()

    async def work(server: Attacked) -> None:
        for text in SQL:
            await send(server, text)

    run(tmp_path, work)


FOREIGN = (b"INBOX", b"", b"*")
OTHERS = (
    b"Other Users/bob@example^2Etest",
    b"Other Users/bob@example.test",
    b"Other Users/bob",
    b"~bob",
    b"#user/bob",
    b"#shared/bob",
    b"user/bob",
    b"bob@example.test",
    b"../bob@example.test",
)
TAKING = (
    b"SELECT %b",
    b"EXAMINE %b",
    b"STATUS %b (MESSAGES UIDNEXT MAILBOXID)",
    b"APPEND %b {9+}\r\na: b\r\n\r\nc",
    b"COPY 1 %b",
    b"MOVE 1 %b",
    b"UID COPY 1 %b",
    b"UID MOVE 1 %b",
    b"REPLACE 1 %b {9+}\r\na: b\r\n\r\nc",
    b"RENAME %b mine",
    b"DELETE %b",
    b"CREATE %b",
    b"CREATE %b/below",
    b"GETACL %b",
    b"MYRIGHTS %b",
    b"LISTRIGHTS %b alice@example.test",
    b"SETACL %b alice@example.test lrswipkxtea",
    b"SETACL %b anyone lr",
    b"DELETEACL %b bob@example.test",
    b"GETQUOTAROOT %b",
    b"GETMETADATA %b (/shared/comment /private/comment)",
    b"SETMETADATA %b (/shared/comment x)",
    b"ESEARCH IN (mailboxes %b) ALL",
    b"ESEARCH IN (subtree %b) ALL",
    b'APPEND INBOX CATENATE (URL "/%b/;UID=1")',
    b'APPEND INBOX CATENATE (URL "imap://bob@mail.example.test/%b/;UID=1")',
)


async def seen_by(bob: Wire) -> list[bytes]:
    """His counts, and all that he sees of names and rights, but for what alice shares with everybody."""
    (status, *_), _ = await command(bob, b"STATUS INBOX (MESSAGES UIDNEXT)")
    names, _ = await command(bob, b'LIST "" *')
    rights, _ = await command(bob, b"GETACL INBOX")
    return [status, *(name for name in names if b'"Other Users' not in name), *rights]


def test_no_command_reaches_the_mailbox_of_another_user(tmp_path: Path) -> None:
    """However it is named: nothing comes of it, the answer is the same as for a user who does not exist, and bob's
    mailboxes are as before."""
    secret = b"Subject: secret\r\n\r\nfor bob only\r\n"

    async def work(server: Attacked) -> None:
        bob = await server.imap(BOB)
        await command(bob, b"APPEND INBOX " + quoted(secret))
        before = await seen_by(bob)
        imap = await server.imap()
        await command(imap, b"APPEND INBOX " + quoted(b"a: b\r\n\r\nown\r\n"))
        for other in OTHERS:
            for mailbox in FOREIGN:
                name = other + (b"/" + mailbox if mailbox else b"")
                await command(imap, b"SELECT INBOX")
                for taking in TAKING:
                    said = []
                    for each in (name, name.replace(b"bob", b"eve")):
                        is_url = b"URL" in taking
                        argument = (
                            each.replace(b" ", b"%20").replace(b"^", b"%5E")
                            if is_url
                            else b'"%b"' % each
                        )
                        text = taking.replace(b'"%b"', b"%b").replace(b"%b", argument)
                        if taking.endswith(b"/below"):
                            text = taking[:-9] + b'"%b/below"' % each
                        found, answer = await command(imap, text)
                        assert b"secret" not in b"".join(found), (text, found)
                        said.append((found, answer.replace(each, b"").replace(b"eve", b"bob")))
                        await command(imap, b"SELECT INBOX")
                    if other.startswith(b"Other"):
                        assert said[0] == said[1], (taking, name)
                        assert said[0][1].startswith((b"q NO", b"q BAD")) or not said[0][0], (
                            taking,
                            said,
                        )
        for text in (
            b'LIST "" "Other Users*"',
            b'LIST "Other Users/" *',
            b'LIST (SUBSCRIBED) "" *',
            b'LSUB "" "Other Users*"',
            b"ESEARCH IN (personal) TEXT secret",
            b'NOTIFY SET STATUS (mailboxes "Other Users/bob@example^2Etest/INBOX" (MessageNew MessageExpunge))',
            b'NOTIFY SET STATUS (subtree "Other Users" (MessageNew MessageExpunge))',
            b"GETQUOTA bob@example.test",
            b'GETQUOTA ""',
        ):
            found, _ = await command(imap, text)
            assert b"bob" not in b"".join(found), (text, found)
        await command(bob, b"APPEND INBOX " + quoted(secret))
        found, _ = await command(imap, b"NOOP")
        assert not [line for line in found if b"bob" in line], found
        after = await seen_by(bob)
        assert after[1:] == before[1:]
        assert b"MESSAGES 1 " in before[0]
        assert b"MESSAGES 2 " in after[0], "bob's own second message, and nothing else"

    run(tmp_path, work)

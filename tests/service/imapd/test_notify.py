"""NOTIFY (RFC 5465) where a transcript cannot say it: time, memory, failures, what others do at the same moment."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from imap_harness import SIMPLE, Imap, serving

from pillarbox.core.errors import Unavailable
from pillarbox.imapd import watch
from pillarbox.store import standing
from pillarbox.store.store import Store
from pillarbox.store.tx import Tx

PERSONAL = b"NOTIFY SET (personal (MessageNew MessageExpunge MailboxName MailboxMetadataChange))"
SENT = 2


def run(folder: Path, test: Callable[[Imap], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with serving(folder) as imap:
            await test(imap)

    asyncio.run(main())


async def listens(imap: Imap, account: int) -> bool:
    await asyncio.sleep(0.05)
    return imap.store._notifier.has_listeners(account)


def large(octets: int) -> bytes:
    return b"Subject: large\r\n\r\n" + b"0123456789abcdef" * (octets // 16)


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(250):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError


@pytest.mark.parametrize("end", [b"NOTIFY NONE", b"UNAUTHENTICATE", b"LOGOUT", b""])
def test_nobody_listens_without_notify_or_after_it(end: bytes, tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        assert not await listens(imap, imap.account)
        await client.ok(b"NOTIFY SET (selected (MessageNew MessageExpunge))")
        assert await listens(imap, imap.account)
        await client.ok(b"UNSELECT")
        assert not await listens(imap, imap.account)
        await client.ok(PERSONAL)
        assert await listens(imap, imap.account)
        assert await listens(imap, 0)
        await client.ok(end) if end else client.close()
        assert not await listens(imap, imap.account)
        assert not await listens(imap, 0)

    run(tmp_path, test)


def test_a_client_that_does_not_read_is_told_of_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.1)
    monkeypatch.setattr(watch, "PATIENCE_S", 0.3)

    async def test(imap: Imap) -> None:
        for _ in range(8):
            await imap.put(large(1 << 21))
        client = await imap.login(b"INBOX")
        await client.ok(PERSONAL)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"f UID FETCH 1:* BODY.PEEK[]")
        await asyncio.sleep(0.2)
        await imap.put(SIMPLE, SENT)
        assert await listens(imap, imap.account)
        await eventually(lambda: not imap.store._notifier.has_listeners(imap.account))
        await imap.put(SIMPLE, SENT)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(8):
            assert b"FETCH (UID" in await client.response()
        assert await client.response() == b"f OK Fetch completed."
        # §5.8: behaves as if NOTIFY NONE had been received
        assert (await client.response()).startswith(b"* OK [NOTIFICATIONOVERFLOW] ")
        await imap.put(SIMPLE)
        await imap.put(SIMPLE, SENT)
        assert await client.ok(b"NOOP") == []
        await client.ok(PERSONAL)
        await imap.put(SIMPLE, SENT)
        assert await client.response() == b"* STATUS Sent (UIDNEXT 5 MESSAGES 4)"

    run(tmp_path, test)


def test_what_waits_for_a_slow_client_is_told_in_the_end(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        for _ in range(8):
            await imap.put(large(1 << 21))
        client = await imap.login(b"INBOX")
        await client.ok(PERSONAL)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"f UID FETCH 1:* BODY.PEEK[]")
        await asyncio.sleep(0.2)
        for _ in range(20):
            await imap.put(SIMPLE, SENT)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(8):
            await client.response()
        assert await client.response() == b"f OK Fetch completed."
        assert await client.response() == b"* STATUS Sent (UIDNEXT 21 MESSAGES 20)"

    run(tmp_path, test)


def test_commands_wait_while_a_new_message_is_told(tmp_path: Path) -> None:
    """Nothing comes between the octets of its literal, not even the answer to a wrong command."""

    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        await client.ok(b"NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge))")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        message = large(12 << 20)
        await imap.put(message)
        await asyncio.sleep(0.2)
        await client.send(b"a NONSENSE\r\nb NOOP\r\nc LOGIN {3+}\r\nann x")
        await asyncio.sleep(0.2)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await client.response() == b"* 1 EXISTS"
        assert await client.response() == b"* 1 RECENT"
        told = await client.response()
        assert told == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(message), message)
        assert (await client.response()).startswith(b"a BAD")
        assert (await client.response()).startswith(b"b OK")
        assert (await client.response()).startswith(b"c BAD")

    run(tmp_path, test)


def test_nothing_is_told_within_an_append(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.ok(PERSONAL)
        await client.send(b"a APPEND INBOX {9}")
        assert await client.read() == b"+ OK"
        await imap.put(SIMPLE, SENT)
        await client.send(b"A: b\r\n\r\nc")
        assert (await client.read()).startswith(b"a OK")
        assert await client.read() == b"* STATUS Sent (UIDNEXT 2 MESSAGES 1)"

    run(tmp_path, test)


def test_too_much_to_watch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5465 §3.1; and §5.8 where it becomes too much later."""
    monkeypatch.setattr(watch, "MOST_MAILBOXES", 8)
    monkeypatch.setattr(watch, "MOST_ENTRIES", 2)

    async def test(imap: Imap) -> None:
        client, other = await imap.login(), await imap.login()
        await client.ok(PERSONAL)
        await other.ok(b'SETMETADATA INBOX (/private/a "x" /private/b "x" /private/c "x")')
        assert b"[NOTIFICATIONOVERFLOW]" in await client.read()
        assert (await client.command(PERSONAL))[-1].startswith(b"NO [NOTIFICATIONOVERFLOW]")
        await client.ok(b"NOTIFY SET (personal (MailboxName))")
        for name in (b"one", b"two"):
            await other.ok(b"CREATE " + name)
            assert name in await client.read()
        # what is refused leaves what there was
        assert (await client.command(PERSONAL))[-1].startswith(b"NO [NOTIFICATIONOVERFLOW]")
        await other.ok(b"DELETE two")
        assert b"\\NonExistent" in await client.read()
        await other.ok(b"CREATE many.more")
        assert b"[NOTIFICATIONOVERFLOW]" in await client.read()
        assert not await listens(imap, imap.account)

    run(tmp_path, test)


def test_a_hint_that_is_lost_only_delays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.3)
    monkeypatch.setattr(standing, "MAILBOXES_A_SLICE", 2)

    async def test(imap: Imap) -> None:
        client, other = await imap.login(b"INBOX"), await imap.login()
        await client.ok(
            PERSONAL + b" (selected (MessageNew MessageExpunge)) (personal (SubscriptionChange))"
        )
        monkeypatch.setattr(imap.store._notifier, "deliver_soon", lambda *_: None)
        await imap.put(SIMPLE)
        assert await client.read() == b"* 1 EXISTS"
        await client.read()
        await other.ok(b"CREATE new")
        await other.ok(b"SUBSCRIBE new")
        await other.ok(b"DELETE Archive")
        await imap.put(SIMPLE, SENT)
        told = {await client.read()}
        async with asyncio.timeout(2):
            while len(told) < 3:
                told.add(await client.read())
        assert b'* LIST (\\HasNoChildren \\Subscribed) "." new' in told
        assert b'* LIST (\\NonExistent \\HasNoChildren \\Subscribed) "." Archive' in told
        assert b"* STATUS Sent (UIDNEXT 2 MESSAGES 1)" in told

    run(tmp_path, test)


def test_many_changes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many hints are not kept: all is read in order."""
    monkeypatch.setattr(standing, "MAILBOXES_A_SLICE", 3)

    async def test(imap: Imap) -> None:
        client, other = await imap.login(), await imap.login()
        await client.ok(PERSONAL)
        name = ".".join("abcdefgh").encode()
        await other.ok(b"CREATE " + name)
        told = [await client.read() for _ in range(8)]
        assert told[-1] == b'* LIST (\\HasNoChildren) "." ' + name
        assert all(b"\\HasChildren" in line for line in told[:-1])
        await other.ok(b"RENAME a z")
        assert await client.read() == b'* LIST (\\HasChildren) "." z ("OLDNAME" (a))'
        assert await client.ok(b"NOOP") == []

    run(tmp_path, test)


def test_what_cannot_be_read_now_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.3)

    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.ok(PERSONAL)
        works = Store.read

        async def fails(self: Store, account: int, work: Callable[[Tx], Any]) -> Any:
            raise Unavailable("the disk does not answer", "UNAVAILABLE")

        monkeypatch.setattr(Store, "read", fails)
        await imap.put(SIMPLE)
        await asyncio.sleep(0.1)
        last = (await client.command(PERSONAL))[-1]
        assert last.startswith(b"NO [UNAVAILABLE]")
        monkeypatch.setattr(Store, "read", works)
        assert await client.read() == b"* STATUS INBOX (UIDNEXT 2 MESSAGES 1)"

    run(tmp_path, test)


def test_what_others_do_at_the_same_moment_is_told(tmp_path: Path) -> None:
    """What a client does itself hides nothing of others (RFC 5465 §5)."""

    async def test(imap: Imap) -> None:
        client, other = await imap.login(), await imap.login()
        await client.ok(PERSONAL)
        standing_before = 0
        for number in range(20):
            one = client.command(b"APPEND Sent {%d+}\r\n%b" % (len(SIMPLE), SIMPLE))
            two = other.append(b"Sent", SIMPLE)
            three = other_puts(imap)
            *told, last = (await asyncio.gather(one, two, three))[0]
            assert last.startswith(b"OK"), last
            own = int(re.findall(rb"APPENDUID \d+ (\d+)", last)[0])
            theirs = {3 * number + place for place in (1, 2, 3)} - {own}
            told += await client.ok(b"NOOP")
            told += await client.ok(b"NOOP")
            words = [re.findall(rb"UIDNEXT (\d+) MESSAGES (\d+)", line) for line in told]
            pairs = [(int(found[0][0]), int(found[0][1])) for found in words if found]
            assert pairs
            # from what was told last, and what it did itself since, it knows all
            assert pairs[-1][0] - 1 >= max(theirs)
            assert pairs[-1][0] - 1 == pairs[-1][1]
            standing_before = pairs[-1][1]
        assert standing_before >= 58

    run(tmp_path, test)


async def other_puts(imap: Imap) -> None:
    await imap.put(SIMPLE, SENT)


def test_a_deleted_selected_mailbox_ends_the_session(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        other = await imap.login()
        await other.ok(b"CREATE gone")
        client = await imap.login(b"gone")
        await client.ok(b"NOTIFY SET (selected (MessageNew MessageExpunge))")
        await other.ok(b"DELETE gone")
        assert (await client.read()).startswith(b"* BYE")
        assert await client.read() == b"<closed>"

    run(tmp_path, test)


def test_a_share_that_ends_with_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.2)

    async def test(imap: Imap) -> None:
        ann = await imap.login(user="ann@example.com")
        await ann.ok(b"SETACL INBOX user@example.com lr")
        client = await imap.login()
        await client.ok(b'NOTIFY SET (subtree "Other Users" (MailboxName))')
        account = imap.store.directory.account("ann@example.com")
        assert account is not None
        imap.store.directory.remove_account(account.id)
        told = [await client.read(), await client.read()]
        assert all(b"\\NonExistent" in line for line in told)
        assert not await listens(imap, account.id)

    run(tmp_path, test)

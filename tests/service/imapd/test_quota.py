"""Quotas over IMAP and SMTP (RFC 9208), and the warnings at 80 and 95 per cent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from imap_harness import Imap, serving

from pillarbox.core.errors import Unavailable
from pillarbox.delivery import quota as watch
from pillarbox.store.quota import Quota, Usage

MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 986  # 1,000 octets


def in_service(tmp_path: Path, test: Any) -> None:
    async def run() -> None:
        async with serving(tmp_path) as imap:
            await test(imap)

    asyncio.run(run())


def limit(imap: Imap, octets: int | None, messages: int | None = None) -> None:
    imap.store.directory.quotas.set(imap.account, octets, messages)


async def no_root(client: Any) -> None:
    """A quota root has one resource or more (RFC 9208 §7: quota-list), so without limits there is none."""
    assert (await client.command(b'GETQUOTA ""'))[-1].startswith(b"NO [NONEXISTENT] ")
    assert await client.ok(b"GETQUOTAROOT INBOX") == [b"* QUOTAROOT INBOX"]


def test_quota_roots_are_told(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        (capability,) = await client.ok(b"CAPABILITY")
        assert b" QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE " in capability
        await no_root(client)
        limit(imap, 10_240, 50)
        await client.append(b"INBOX", MESSAGE)
        await client.append(b"Sent", MESSAGE)
        assert await client.ok(b'GETQUOTA ""') == [b'* QUOTA "" (STORAGE 2 10 MESSAGE 2 50)']
        assert await client.ok(b"GETQUOTAROOT nothing") == [
            b'* QUOTAROOT nothing ""',
            b'* QUOTA "" (STORAGE 2 10 MESSAGE 2 50)',
        ]
        limit(imap, None, 50)
        assert await client.ok(b'GETQUOTA ""') == [b'* QUOTA "" (MESSAGE 2 50)']
        # of the domain, where the account has none of its own
        imap.store.directory.quotas.set_domain("example.com", 5120, 0)
        assert await client.ok(b'GETQUOTA ""') == [b'* QUOTA "" (STORAGE 2 5 MESSAGE 2 50)']
        limit(imap, 0, 0)
        await no_root(client)
        for command, answer in (
            (b"GETQUOTA other", b"NO [NONEXISTENT] "),
            (b'SETQUOTA "" (STORAGE 5)', b"NO [NOPERM] "),
            (b'SETQUOTA "" ()', b"NO [NOPERM] "),
            (b'SETQUOTA "" (STORAGE x)', b"BAD "),
            (b'SETQUOTA "" (STORAGE 9223372036854775808)', b"BAD "),
            (b"GETQUOTA", b"BAD "),
        ):
            assert (await client.command(command))[-1].startswith(answer), command

    in_service(tmp_path, test)


def test_what_would_be_over_quota_is_refused(tmp_path: Path) -> None:
    # RFC 9208 §4.3.1
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        limit(imap, 2500)
        await client.append(b"INBOX", MESSAGE)
        await client.append(b"INBOX", MESSAGE)
        # before the octets come
        await client.send(b"a APPEND INBOX {1000}")
        while not (line := await client.read()).startswith(b"a "):
            pass
        assert line.startswith(b"a NO [OVERQUOTA] ")
        full = b"NO [OVERQUOTA] "
        two = b"APPEND INBOX {300+}\r\n%b {300+}\r\n%b" % (MESSAGE[:300], MESSAGE[:300])
        assert (await client.command(two))[-1].startswith(full)
        assert (await client.command(b"COPY 1 Sent"))[-1].startswith(full)
        # what is moved or replaced is here already
        await client.ok(b"MOVE 1 Sent")
        await client.ok(b"REPLACE 1 INBOX {1000+}\r\n" + MESSAGE)
        assert (await client.command(b"REPLACE 1 INBOX {1600+}\r\n" + MESSAGE + b"x" * 600))[
            -1
        ].startswith(full)
        assert await client.ok(b'GETQUOTA ""') == [b'* QUOTA "" (STORAGE 2 2)']
        # there is room again once something is gone
        await client.ok(b"STORE 1 +FLAGS (\\Deleted)")
        (status,) = await client.ok(b"STATUS INBOX (DELETED DELETED-STORAGE)")
        assert status == b"* STATUS INBOX (DELETED 1 DELETED-STORAGE 1000)"
        await client.ok(b"EXPUNGE")
        (status,) = await client.ok(b"STATUS INBOX (DELETED-STORAGE)")
        assert status == b"* STATUS INBOX (DELETED-STORAGE 0)"
        await client.append(b"INBOX", MESSAGE)

    in_service(tmp_path, test)


def test_the_number_of_messages_is_limited(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"INBOX")
        limit(imap, None, 2)
        await client.append(b"INBOX", b"A: b\r\n\r\n")
        assert (await client.command(b"COPY 1,1 Sent"))[-1].startswith(b"OK")
        for command in (b"COPY 1 Sent", b"APPEND INBOX {8+}\r\nA: b\r\n\r\n"):
            assert (await client.command(command))[-1].startswith(b"NO [OVERQUOTA] ")

    in_service(tmp_path, test)


async def subjects(imap: Imap) -> list[str]:
    def work(tx: Any) -> list[str]:
        rows = tx.rows(
            "SELECT lower(k.subject) FROM message JOIN sort_key AS k USING (content) WHERE mailbox = 1",
            (),
        )
        return [row[0] for row in rows]

    return [subject for subject in await imap.store.read(imap.account, work) if "full" in subject]


def test_an_account_is_warned_once_at_each_share(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login(b"Sent")
        limit(imap, None, 100)

        async def fill(count: int) -> None:
            for _ in range(count):
                await client.append(b"Sent", b"A: b\r\n\r\n")
            await watch.warn(imap.store, "mail.example.com")

        await fill(79)
        assert await subjects(imap) == []
        await fill(1)
        assert await subjects(imap) == ["your mailboxes are 80 per cent full"]
        await fill(5)  # and the warning itself counts, too
        assert len(await subjects(imap)) == 1
        await fill(9)
        assert (await subjects(imap))[1:] == ["your mailboxes are 95 per cent full"]
        await client.ok(b"STORE 1:60 +FLAGS (\\Deleted)")
        await client.ok(b"EXPUNGE")
        await fill(1)
        assert len(await subjects(imap)) == 2
        await fill(45)
        assert (await subjects(imap))[2:] == ["your mailboxes are 80 per cent full"]

    in_service(tmp_path, test)


def test_a_warning_that_cannot_be_given_now_is_logged_with_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(imap: Imap) -> None:
        limit(imap, None, 100)
        known = imap.store.directory.account_by_id(imap.account)
        assert known is not None

        async def refuse(*_arguments: object) -> None:
            raise Unavailable("the mail file cannot be used now", told="1.db: the reason")

        monkeypatch.setattr(imap.store, "read", refuse)
        imap.store.grown.add(imap.account)
        await watch.warn(imap.store, "mail.example.com")
        said = f"the mail that tells {known.address} when its mailboxes are nearly full waits"
        assert said in caplog.text
        assert "1.db: the reason" in caplog.text

    in_service(tmp_path, test)


def test_without_quotas_nothing_is_noted(tmp_path: Path) -> None:
    async def test(imap: Imap) -> None:
        client = await imap.login()
        await client.append(b"Sent", MESSAGE)
        watch.note_growth(imap.store, [imap.account])
        assert not imap.store.grown
        assert not await watch.are_full(imap.store, [imap.account], 1 << 40)
        limit(imap, 1024)
        assert await watch.are_full(imap.store, [imap.account], 25)
        assert not await watch.are_full(imap.store, [imap.account], 24)
        assert not await watch.are_full(imap.store, [imap.account, 99], 25)

    in_service(tmp_path, test)


@pytest.mark.parametrize(
    ("octets", "messages", "share"), [(79, 1, 0), (80, 1, 80), (94, 1, 80), (95, 0, 95), (1, 10, 95)]
)  # fmt: skip
def test_the_resource_that_is_scarcer_counts(octets: int, messages: int, share: int) -> None:
    assert Quota(100, 10).warning(Usage(octets, messages)) == share

"""Who signs, with which keys, and what happens when a key cannot be used."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

import dkim
import pytest

from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.outbound.signing import MailSigner, add_keys
from pillarbox.store.content import LARGEST_INLINE
from pillarbox.store.directory import Directory
from pillarbox.store.directory_file import LOOK_EVERY_S
from pillarbox.store.dkim_keys import RETIRED_RECORD_S, DkimKey, KeyState
from pillarbox.store.store import Store

NOW = 1_790_000_000
DOMAIN = "us.example"
MESSAGE = (
    b"Received: from a by b\r\nFrom: Me <me@us.example>\r\nTo: you@there.example\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@us.example>\r\n\r\nHello.\r\n"
)

Scenario = Callable[[Store], Coroutine[None, None, None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            store = Store(tmp_path, clock=lambda: NOW)
            store.directory.add_domain(DOMAIN)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(main())

    return run_scenario


def selectors(message: bytes) -> list[str]:
    """Of the signatures at the beginning of a message."""
    fields = message.partition(b"\r\nReceived:")[0].split(b"DKIM-Signature:")[1:]
    return [field.partition(b" s=")[2].partition(b";")[0].decode() for field in fields]


def verified(message: bytes, keys: list[DkimKey]) -> list[bool]:
    """What dkimpy makes of each signature, with the records of these keys in the DNS."""
    records = {
        f"{key.selector}._domainkey.{key.domain}.".encode(): key.record.encode() for key in keys
    }
    verifier = dkim.DKIM(message)
    return [
        bool(verifier.verify(index, dnsfunc=lambda name, timeout: records.get(name)))
        for index in range(message.count(b"DKIM-Signature:"))
    ]


def test_each_key_of_the_authors_domain_signs(run) -> None:
    async def scenario(store: Store) -> None:
        keys = add_keys(store.directory, DOMAIN, NOW)
        assert [key.algorithm for key in keys] == ["rsa", "ed25519"]
        signed = await MailSigner(store).sign(MESSAGE)
        assert signed.endswith(MESSAGE)
        assert selectors(signed) == [key.selector for key in keys]
        assert verified(signed, keys) == [True, True]

    run(scenario)


def test_large_messages_are_signed_too(run) -> None:
    async def scenario(store: Store) -> None:
        keys = add_keys(store.directory, DOMAIN, NOW)
        signed = await MailSigner(store).sign(MESSAGE + b"0123456789\r\n" * (LARGEST_INLINE // 8))
        assert verified(signed, keys) == [True, True]

    run(scenario)


@pytest.mark.parametrize(
    "author", [b"me@there.example", b"me@sub.us.example", b"me@us.example, you@there.example", b""]
)
def test_only_the_domain_of_the_one_author_signs(run, author: bytes) -> None:
    async def scenario(store: Store) -> None:
        add_keys(store.directory, DOMAIN, NOW)
        message = b"From: " + author + b"\r\n\r\nHello.\r\n"
        assert await MailSigner(store).sign(message) == message

    run(scenario)


def test_a_message_that_cannot_be_signed_goes_unsigned(run) -> None:
    async def scenario(store: Store) -> None:
        add_keys(store.directory, DOMAIN, NOW)
        message = (
            b"From: me@us.example\r\n" + b"To: you@there.example\r\n" * 300 + b"\r\nHello.\r\n"
        )
        assert await MailSigner(store).sign(message) == message

    run(scenario)


def test_a_domain_without_keys_sends_unsigned_mail(run) -> None:
    async def scenario(store: Store) -> None:
        assert await MailSigner(store).sign(MESSAGE) == MESSAGE

    run(scenario)


def test_new_keys_sign_only_when_they_are_activated_by_whatever_process(
    run, tmp_path: Path
) -> None:
    async def scenario(store: Store) -> None:
        signer = MailSigner(store)
        command = Directory(tmp_path / "directory.db", clock=lambda: NOW + 1)
        old = {key.selector for key in add_keys(command, DOMAIN, NOW)}
        assert set(selectors(await signer.sign(MESSAGE))) == old
        new = {key.selector for key in add_keys(command, DOMAIN, NOW)}
        assert not old & new
        assert set(selectors(await signer.sign(MESSAGE))) == old
        command.dkim_keys.activate(DOMAIN)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        signed = await signer.sign(MESSAGE)
        assert set(selectors(signed)) == new
        assert verified(signed, command.dkim_keys.of(DOMAIN)) == [True, True]
        command.remove_domain(DOMAIN)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert await signer.sign(MESSAGE) == MESSAGE
        command.add_domain(DOMAIN)
        keys = add_keys(command, DOMAIN, NOW)
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert verified(await signer.sign(MESSAGE), keys) == [True, True]  # selectors as before
        command.close()

    run(scenario)


def test_retired_keys_keep_their_record_for_a_week_but_not_their_secret(
    run, tmp_path: Path
) -> None:
    async def scenario(store: Store) -> None:
        now = NOW
        directory = Directory(tmp_path / "directory.db", clock=lambda: now)
        with pytest.raises(Refused, match="rotate-keys"):
            directory.dkim_keys.activate(DOMAIN)
        add_keys(directory, DOMAIN, now)
        for days, kept in ((0, 2), (6, 4), (8, 4)):
            now = NOW + days * 86400
            add_keys(directory, DOMAIN, now)
            directory.dkim_keys.activate(DOMAIN)
            keys = directory.dkim_keys.of(DOMAIN)
            retired = [key for key in keys if key.state is KeyState.RETIRED]
            assert len(retired) == kept
            assert all(key.record and now - key.changed <= RETIRED_RECORD_S for key in retired)
            assert len(directory.dkim_keys.private(DOMAIN)) == 2
        directory.close()

    run(scenario)


def test_a_key_that_cannot_be_used_costs_its_signature_only(
    run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(store: Store) -> None:
        keys = add_keys(store.directory, DOMAIN, NOW)
        broken = DkimKey(DOMAIN, "broken", "rsa", "", KeyState.ACTIVE, NOW, NOW)
        store.directory.dkim_keys.add([(broken, Secret("PRIVATE nonsense"))])
        signer = MailSigner(store)
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                assert verified(await signer.sign(MESSAGE), keys) == [True, True]
        (record,) = caplog.records  # once, not for each message
        assert "broken" in record.getMessage()
        assert "PRIVATE" not in caplog.text

    run(scenario)


def test_private_keys_do_not_show_themselves(run) -> None:
    async def scenario(store: Store) -> None:
        add_keys(store.directory, DOMAIN, NOW)
        for key, private_key in store.directory.dkim_keys.private(DOMAIN):
            assert private_key.reveal().startswith("-----BEGIN PRIVATE KEY-----")
            assert "PRIVATE" not in f"{key!r} {private_key!r} {private_key}"

    run(scenario)


EIGHT_BIT = (
    b"From: me@us.example\r\nReferences: " + b"<1234567890@us.example> " * 60 + b"\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    + "grüße".encode()
    + b"\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>"
    + b"x" * 1200
    + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("filler", [b"", b"filler\r\n" * (LARGEST_INLINE // 8)])
def test_what_a_host_might_change_is_encoded_before_it_is_signed(run, filler: bytes) -> None:
    """RFC 6376 §5.3"""

    async def scenario(store: Store) -> None:
        keys = add_keys(store.directory, DOMAIN, NOW)
        signed = await MailSigner(store).sign(EIGHT_BIT.replace(b"<p>", b"<p>" + filler))
        assert signed.isascii()
        assert max(len(line) for line in signed.split(b"\r\n")) <= 998
        assert b"gr=C3=BC=C3=9Fe" in signed
        assert verified(signed, keys) == [True, True]

    run(scenario)


def test_without_keys_it_is_encoded_too(run) -> None:
    async def scenario(store: Store) -> None:
        assert (await MailSigner(store).sign(EIGHT_BIT)).isascii()
        sealed = EIGHT_BIT.replace(b"alternative", b"signed").replace(b"x" * 1200, b"")
        assert "grüße".encode() in await MailSigner(store).sign(sealed)

    run(scenario)

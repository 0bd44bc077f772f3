"""Who has an account here, asked of all that answers before a login: by its words, and by the time that it takes."""

import asyncio
import base64
import itertools
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attacked import ALICE, BOB, Attacked, Wire, attacked

USERS = (ALICE, BOB, "nobody@example.test", "alice@elsewhere.test", "nobody@elsewhere.test")
"""Bob is disabled."""


def plain(user: str, password: str) -> bytes:
    return base64.b64encode(f"\0{user}\0{password}".encode())


async def disable_bob(server: Attacked) -> None:
    account = server.store.directory.account(BOB)
    assert account is not None
    server.store.directory.set_enabled(account.id, enabled=False)


async def try_plain(wire: Wire, service: str, user: str) -> bytes:
    """A wrong password by PLAIN: the answer."""
    verb = {"imap": b"a AUTHENTICATE PLAIN ", "pop3": b"AUTH PLAIN "}.get(service, b"AUTH PLAIN ")
    return await wire.ask(verb + plain(user, secrets.token_hex(8)))


async def try_scram(wire: Wire, service: str, user: str) -> bytes:
    """A wrong proof by SCRAM-SHA-256 (RFC 5802 §5): the answer; the salt is a random one for the eye."""
    verb = {"imap": b"a AUTHENTICATE SCRAM-SHA-256 "}.get(service, b"AUTH SCRAM-SHA-256 ")
    nonce = secrets.token_hex(8)
    first = base64.b64encode(f"n,,n={user},r={nonce}".encode())
    challenge = (await wire.ask(verb + first)).split()[-1]
    words = dict(part.split(b"=", 1) for part in base64.b64decode(challenge).split(b","))
    assert words[b"r"].startswith(nonce.encode())
    proof = base64.b64encode(secrets.token_bytes(32)).decode()
    final = f"c=biws,r={words[b'r'].decode()},p={proof}"
    return await wire.ask(base64.b64encode(final.encode()))


def chance(some: list[float], others: list[float]) -> float:
    """That one of `some` is larger than one of `others`: 0.5 where nothing can be told from them."""
    pairs = itertools.product(some, others)
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / (len(some) * len(others))


@pytest.mark.parametrize(
    ("service", "attempt", "users", "rounds", "furthest"),
    [
        ("submission", try_plain, (ALICE, BOB, "nobody@example.test"), 10, 0.45),
        ("submission", try_scram, USERS, 20, 0.35),
        ("imap", try_scram, USERS, 20, 0.35),
        ("pop3", try_scram, USERS, 20, 0.35),
    ],
)
def test_neither_time_nor_words_of_a_failed_login_tell_who_exists(
    tmp_path: Path,
    service: str,
    attempt: Callable[[Wire, str, str], Awaitable[bytes]],
    users: tuple[str, ...],
    rounds: int,
    furthest: float,
) -> None:
    """Attempts in turns: the chance that one for an account took longer than one for nobody is near one half. By luck
    alone it is `furthest` from it once in some thousand times; without a hash for nobody it is 1, each time that it
    is looked at. A machine that is busy with other things may have it so once."""
    dice = random.Random(11)

    async def main() -> None:
        async with attacked(tmp_path, quick=False) as server:
            await disable_bob(server)
            numbers = itertools.count(1)
            for _ in range(3):
                took = await compare(server, numbers)
                if all(abs(chance(took[ALICE], took[user]) - 0.5) < furthest for user in users[1:]):
                    return
            raise AssertionError(took)

    async def compare(server: Attacked, numbers: "itertools.count[int]") -> dict[str, list[float]]:
        took: dict[str, list[float]] = {user: [] for user in users}
        words = set()
        for _ in range(rounds):
            for user in dice.sample(users, len(users)):
                number = next(numbers)  # from a network of its own: failures are counted by it
                source = f"127.7.{number // 250}.{1 + number % 250}"
                wire = await server.greeted(service, source)
                if service == "submission":
                    await wire.ask(b"EHLO x")
                began = time.perf_counter()
                words.add(await attempt(wire, service, user))
                took[user].append(time.perf_counter() - began)
                wire.close()
        assert len(words) == 1, words
        return took

    asyncio.run(main())


def test_no_other_command_tells_who_exists(tmp_path: Path) -> None:
    """But RCPT, which has to: mail for nobody is refused, not taken and returned."""

    async def main() -> None:
        async with attacked(tmp_path) as server:
            for line in (b"VRFY %b", b"VRFY <%b>", b"EXPN %b"):
                said = set()
                for user in USERS:
                    wire = await server.smtp()
                    said.add(await wire.ask(line.replace(b"%b", user.encode())))
                    wire.close()
                assert len(said) == 1, said
            for user in USERS:
                pop3 = await server.greeted("pop3")
                assert (await pop3.ask(b"USER " + user.encode())).startswith(b"+OK")
                pop3.close()
            imap = await server.imap()
            said = set()
            for user in USERS[1:]:  # of others
                for line in (b'a MYRIGHTS "Other Users/%b"', b'a LIST "" "Other Users/%b/*"'):
                    said.add(await imap.ask(line.replace(b"%b", user.replace(".", "^2E").encode())))
            assert len(said) == 2, said

    asyncio.run(main())

"""A day of a server in minutes: IMAP, SMTP and POP3 clients at work, and SIGKILL for workers and supervisor.

`make soak` runs it for SOAK_S seconds, the suite for some. In the first half something is
killed every few seconds. Then the server is left alone, and may not grow: what it takes at rest (`Size`) is compared
before and after the last quarter. Each message has a number of its own, and a ledger knows of each account what must be
there, once, and what must not. Mailboxes stay at KEPT messages, so nothing grows but files.
"""

import argparse
import asyncio
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from os import kill, listdir, readlink
from pathlib import Path
from statistics import median

from clients import Imap, Smtp
from rich.progress import Progress
from serverprocess import DOMAIN, PASSWORD, ServerProcess

from pillarbox.app.maintenance import FILES_EVERY_S
from pillarbox.store.accounts import DESCRIPTORS_PER_FILE, KEPT_OPEN
from pillarbox.store.check import check_store
from pillarbox.store.store import CACHES_OCTETS

KEPT = 100
"""Messages in a mailbox: clients move or delete the oldest ones beyond."""

LONGEST_ANSWER_S = 60.0

GROWTH_OCTETS = 12 << 20
GROWTH_DESCRIPTORS = GROWTH_THREADS = 10
"""Between two moments of rest. Of 120 MiB, 4 came and went from one rest to the next, with how the pages of SQLite lay
between others, while all else that was in use was the same."""

STILL_S = 35.0
MOST_UNREST_S = 300.0
"""How long no file is opened or closed before it is rest, and how long that is waited for."""

REST_S = 3.2 * FILES_EVERY_S
"""How long a server is left alone before it is looked at: until then it has closed the files that nobody uses, and
given back what was freed. Under load the C library keeps as much as was in use at once (two workers kept 130 MB of 340
so), and how much that was is chance."""

Gone = (OSError, EOFError)
"""What clients of a server that was killed get to see (`IncompleteReadError` is an `EOFError`)."""


class State(Enum):
    """Of a message in an account."""

    MAYBE = "sent, and no answer came"
    THERE = "acknowledged"
    GOING = "to be deleted, and no answer came"
    GONE = "deleted, and that was acknowledged; or refused"


class Wrong(Exception):
    """The server broke a promise."""


@dataclass(slots=True)
class Ledger:
    """What all clients know."""

    dice: random.Random
    imap_accounts: int
    pop3_accounts: int
    """They come last. Nobody else moves or deletes their mail."""
    states: list[dict[int, State]] = field(init=False)
    """By account: of each message."""
    sent: int = 0
    commands: int = 0
    kills: int = 0
    is_over: bool = False
    """Clients leave when they have done what they are at."""

    def __post_init__(self) -> None:
        self.states = [{} for _ in range(self.imap_accounts + self.pop3_accounts)]

    def new_message(self, accounts: list[int]) -> tuple[int, bytes]:
        """A message for these accounts, which may have it from now on."""
        self.sent += 1
        number = self.sent
        for account in accounts:
            self.states[account][number] = State.MAYBE
        size = self.dice.choice((200, 1000, 4000, 4000, 20_000, 200_000))
        lines = (b"%x" % self.dice.getrandbits(280) for _ in range(size // 72))
        subject = self.dice.choice((b"Report", b"Re: Report", b"Minutes", b"Lunch"))
        return (
            number,
            b"X-Soak: %d\r\nSubject: %b %d\r\nMessage-ID: <%d@soak.example>\r\n\r\n%b\r\n"
            % (
                number,
                subject,
                number % 50,
                number,
                b"\r\n".join(lines),
            ),
        )

    def set(self, accounts: list[int], numbers: list[int], state: State) -> None:
        for account in accounts:
            for number in numbers:
                if self.states[account][number] is not State.GONE:
                    self.states[account][number] = state


def numbers_in(octets: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^X-Soak: (\d+)\r$", octets, re.MULTILINE)]


# Clients


async def smtp_client(server: ServerProcess, ledger: Ledger, _place: int) -> None:
    dice = ledger.dice
    smtp = await Smtp.connect(server.smtp)
    for _ in range(dice.randint(1, 30)):
        accounts = dice.sample(range(len(ledger.states)), dice.choice((1, 1, 1, 3)))
        number, message = ledger.new_message(accounts)
        answer = await smtp.send([f"user{account}@{DOMAIN}" for account in accounts], message)
        ledger.commands += 1
        if not answer.startswith("250 "):
            raise Wrong(f"a message was refused: {answer}")
        ledger.set(accounts, [number], State.THERE)
        await asyncio.sleep(dice.uniform(0, 0.4))
        if ledger.is_over:
            break
    await smtp.say("QUIT")
    smtp.close()


async def imap_client(server: ServerProcess, ledger: Ledger, place: int) -> None:
    dice = ledger.dice
    account = place % len(ledger.states)
    imap = await Imap.connect(server.imap, account)
    is_owner = account < ledger.imap_accounts
    if is_owner:
        await imap.command("CREATE Archive")
    name = dice.choice(("INBOX", "Archive")) if is_owner else "INBOX"
    exists = await _select(imap, name)
    for _ in range(dice.randint(5, 60)):
        kind = dice.randrange(9)
        if kind == 0:
            await _ok(imap, "NOOP")
        elif kind == 1:
            await _ok(imap, "UID FETCH 1:* (FLAGS)")
        elif kind == 2 and exists:
            await imap.command(f"FETCH {dice.randint(1, exists)} (ENVELOPE BODY.PEEK[])")
        elif kind == 3:
            await _ok(
                imap, f'UID SEARCH {dice.choice(("SUBJECT", "TEXT"))} "report {dice.randrange(50)}"'
            )
        elif kind == 4 and exists:
            sign = dice.choice("+-")
            await imap.command(f"STORE {dice.randint(1, exists)} {sign}FLAGS (\\Seen $Soak)")
        elif kind == 5 and is_owner:
            number, message = ledger.new_message([account])
            await _ok(imap, f"APPEND {name} (\\Seen)", message)
            ledger.set([account], [number], State.THERE)
        elif kind == 6:
            imap.writer.write(b"i IDLE\r\n")
            await imap.line()
            await asyncio.sleep(dice.uniform(0, 1))
            imap.writer.write(b"DONE\r\n")
            while not (await imap.line()).startswith(b"i OK"):
                pass
        elif kind == 7:
            await _ok(imap, f"UID SORT ({dice.choice(('SUBJECT', 'REVERSE DATE'))}) UTF-8 ALL")
        elif is_owner:
            exists = await _make_room(imap, ledger, account, name)
        ledger.commands += 1
        await asyncio.sleep(dice.uniform(0, 0.3))
        if ledger.is_over:
            break
    await imap.command("LOGOUT")
    imap.close()


async def _make_room(imap: Imap, ledger: Ledger, account: int, name: str) -> int:
    """Move the oldest messages of INBOX to Archive, delete those of Archive; how many there are now."""
    exists = await _select(imap, name)
    if exists <= KEPT:
        return exists
    lines = await imap.command(f"FETCH 1:{exists - KEPT} (UID BODY.PEEK[HEADER.FIELDS (X-SOAK)])")
    uids = [int(match[1]) for line in lines if (match := re.search(rb"UID (\d+)", line))]
    if not uids:
        return exists  # another session was faster
    some = f"{uids[0]}:{uids[-1]}"
    if name == "INBOX":
        await _ok(imap, f"UID MOVE {some} Archive")
    else:
        numbers = numbers_in(b"\r\n".join(lines))
        ledger.set([account], numbers, State.GOING)
        await _ok(imap, f"UID STORE {some} +FLAGS.SILENT (\\Deleted)")
        await _ok(imap, f"UID EXPUNGE {some}")
        ledger.set([account], numbers, State.GONE)
    return await _select(imap, name)


async def _select(imap: Imap, name: str) -> int:
    lines = await _ok(imap, f"SELECT {name}")
    return next(int(match[1]) for line in lines if (match := re.match(rb"\* (\d+) EXISTS", line)))


async def _ok(imap: Imap, command: str, literal: bytes | None = None) -> list[bytes]:
    lines = await imap.command(command, literal)
    if not lines[-1].startswith(b"OK"):
        raise Wrong(f"{command}: {lines[-1].decode()}")
    return lines


async def pop3_client(server: ServerProcess, ledger: Ledger, place: int) -> None:
    """The only one of its account: a maildrop has one session at a time (RFC 1939 §4)."""
    dice = ledger.dice
    account = ledger.imap_accounts + place
    reader, writer = await asyncio.open_connection("127.0.0.1", server.pop3, limit=1 << 24)

    async def say(line: str, *, many: bool = False) -> bytes:
        writer.write(line.encode() + b"\r\n")
        answer = await reader.readuntil(b"\r\n")
        ledger.commands += 1
        if many and answer.startswith(b"+OK"):
            answer += await reader.readuntil(b"\r\n.\r\n") if line != "UIDL" else b""
        return answer

    await reader.readuntil(b"\r\n")
    await say(f"USER user{account}@{DOMAIN}")
    answer = await say(f"PASS {PASSWORD}")
    if b"[IN-USE]" in answer:  # a session whose client went away is still at its end
        await asyncio.sleep(0.2)
        return
    if not answer.startswith(b"+OK"):
        raise Wrong(f"PASS: {answer!r}")
    count = int((await say("STAT")).split()[1])
    if count:
        await say(f"RETR {dice.randint(1, count)}", many=True)
    deleted: list[int] = []
    for number in range(1, count - KEPT + 1):
        deleted += numbers_in(await say(f"TOP {number} 0", many=True))
        await say(f"DELE {number}")
    if dice.random() < 0.2:
        writer.close()  # without QUIT nothing is deleted (RFC 1939 §6)
        await asyncio.sleep(0.2)
        return
    ledger.set([account], deleted, State.GOING)
    if not (await say("QUIT")).startswith(b"+OK"):
        raise Wrong("QUIT was refused")
    ledger.set([account], deleted, State.GONE)
    writer.close()
    await asyncio.sleep(dice.uniform(0, 1))


Client = Callable[[ServerProcess, Ledger, int], Coroutine[None, None, None]]


async def _again_and_again(
    client: Client, server: ServerProcess, ledger: Ledger, place: int
) -> None:
    while not ledger.is_over:
        try:
            async with asyncio.timeout(LONGEST_ANSWER_S * 5):
                await client(server, ledger, place)
        except Gone:
            await asyncio.sleep(0.1)
        except TimeoutError:
            raise Wrong(f"a session of {client.__name__} hangs") from None


# The course of it


@dataclass(slots=True)
class Size:
    """Of all processes of the server, at rest."""

    octets: int
    """But for what SQLite has: pages of the files that stay open, 2.5 MiB each, whichever these are. It has a bound of
    its own (`store.CACHES_OCTETS`)."""
    sqlite_octets: int
    descriptors: int
    """But for those of account files: which of them stay open is chance, and whether somebody read beside a commit."""
    file_descriptors: int
    """Of account files; bounded by MOST_FILE_DESCRIPTORS."""
    threads: int


WORKERS = 2
MOST_FILE_DESCRIPTORS = WORKERS * KEPT_OPEN * DESCRIPTORS_PER_FILE


@dataclass(slots=True)
class Plan:
    seconds: float
    imap: int = 50
    smtp: int = 20
    pop3: int = 10
    imap_accounts: int = 20
    longest_peace_s: float = 15.0
    """Between two kills."""
    rest_s: float = REST_S
    judges_growth: bool = True
    """Not so when it takes too short a time for pools to fill."""


async def _load(
    server: ServerProcess, ledger: Ledger, plan: Plan, seconds: float, *, kills: bool
) -> None:
    """All clients at work for so long, then none. Raises Wrong."""
    ledger.is_over = False
    kinds = ((imap_client, plan.imap), (smtp_client, plan.smtp), (pop3_client, plan.pop3))
    async with asyncio.TaskGroup() as group:
        for client, count in kinds:
            for place in range(count):
                group.create_task(_again_and_again(client, server, ledger, place))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            pause_s = ledger.dice.uniform(0.3, plan.longest_peace_s) if kills else left
            await asyncio.sleep(min(left, pause_s))
            if kills:
                await asyncio.to_thread(_kill_something, server, ledger)
        ledger.is_over = True


def _kill_something(server: ServerProcess, ledger: Ledger) -> None:
    ledger.kills += 1
    workers = server.workers()
    if workers and ledger.dice.random() < 0.7:
        killed = ledger.dice.choice(workers)
        with suppress(ProcessLookupError):
            kill(killed, signal.SIGKILL)
        server.wait_for_workers(killed)  # what it has taken is seen from then on
        return
    server.kill()
    server.start()
    server.wait_for_workers()


async def _verify(server: ServerProcess, ledger: Ledger) -> None:
    for account, states in enumerate(ledger.states):
        imap = await Imap.connect(server.imap, account)
        found: dict[int, int] = {}
        for name in ("INBOX", "Archive"):
            if not (await imap.command(f"SELECT {name}"))[-1].startswith(b"OK"):
                continue
            lines = await imap.command("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (X-SOAK)])")
            for number in numbers_in(b"\r\n".join(lines)):
                found[number] = found.get(number, 0) + 1
        await imap.command("LOGOUT")
        imap.close()
        for number, state in states.items():
            count = found.pop(number, 0)
            wanted = {State.THERE: (1,), State.GONE: (0,)}.get(state, (0, 1))
            if count not in wanted:
                raise Wrong(
                    f"message {number} is {count} times in account {account}: it was {state.value}"
                )
        if found:
            raise Wrong(f"account {account} has what nobody sent: {sorted(found)[:5]}")


def _size(server: ServerProcess) -> Size:
    assert server.process is not None
    pids = [server.process.pid, *server.workers()]
    of_sqlite = sum(worker["sqlite_octets"] for worker in server.status()["workers"])
    targets = [target for pid in pids for target in _descriptors(pid)]
    of_files = sum("/data/accounts/" in target for target in targets)
    return Size(
        (server.pss_kib() << 10) - of_sqlite,
        of_sqlite,
        len(targets) - of_files,
        of_files,
        sum(len(listdir(f"/proc/{pid}/task")) for pid in pids),
    )


def _descriptors(pid: int) -> Iterator[str]:
    """What each of them is: a path, or `socket:[12]`."""
    for number in listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            yield readlink(f"/proc/{pid}/fd/{number}")


async def _files_stand_still(server: ServerProcess) -> None:
    """Until no file was opened or closed for a while: what indexes mail goes on behind the load, at its own pace, and
    files that it used are closed a minute after it."""
    deadline = time.monotonic() + MOST_UNREST_S
    last, since = -1, 0.0
    while last < 0 or time.monotonic() - since < STILL_S:
        if time.monotonic() > deadline:
            return  # the figures say what is wrong
        await asyncio.sleep(1)
        size = await asyncio.to_thread(_size, server)
        if size.descriptors + size.file_descriptors != last:
            last, since = size.descriptors + size.file_descriptors, time.monotonic()


async def _at_rest(server: ServerProcess, plan: Plan) -> Size:
    await asyncio.sleep(plan.rest_s)
    if plan.judges_growth:
        await _files_stand_still(server)
    sizes = []
    for _ in range(5):
        await asyncio.sleep(0.5)
        sizes.append(await asyncio.to_thread(_size, server))
    return Size(
        int(median(size.octets for size in sizes)),
        max(size.sqlite_octets for size in sizes),
        min(size.descriptors for size in sizes),
        max(size.file_descriptors for size in sizes),
        min(size.threads for size in sizes),
    )


async def soak(folder: Path, plan: Plan, seed: int, tell: Callable[[str], None]) -> Ledger:
    """Raises Wrong."""
    ledger = Ledger(random.Random(seed), plan.imap_accounts, plan.pop3)
    server = ServerProcess(
        folder, len(ledger.states), "connections_per_address = 1000", workers=WORKERS
    )
    server.start()
    try:
        await _course(server, ledger, plan, tell)
    finally:
        assert server.process is not None
        if server.process.poll() is None:  # a promise was broken
            server.kill()
    log = (folder / "out").read_text()
    if "Traceback" in log:
        raise Wrong(log[log.index("Traceback") :][:2000])
    if faults := list(check_store(folder / "data")):
        raise Wrong(f"check finds {faults[:5]}")
    return ledger


async def _course(
    server: ServerProcess, ledger: Ledger, plan: Plan, tell: Callable[[str], None]
) -> None:
    """From its start to its end. Raises Wrong."""
    server.wait_for_workers()
    tell("clients at work, and kills")
    await _load(server, ledger, plan, plan.seconds / 2, kills=True)
    await _verify(server, ledger)
    tell("pools fill")
    await _load(server, ledger, plan, plan.seconds / 4, kills=False)
    before = await _at_rest(server, plan)
    tell("clients at work, no kills")
    await _load(server, ledger, plan, plan.seconds / 4, kills=False)
    after = await _at_rest(server, plan)
    await _verify(server, ledger)
    tell(f"at rest before and after the last quarter: {before}, {after}")
    if plan.judges_growth and (
        after.octets > before.octets + GROWTH_OCTETS
        or after.sqlite_octets > CACHES_OCTETS
        or after.descriptors > before.descriptors + GROWTH_DESCRIPTORS
        or after.file_descriptors > MOST_FILE_DESCRIPTORS
        or after.threads > before.threads + GROWTH_THREADS
    ):
        raise Wrong(f"it grew: {before}, then {after}")
    if server.stop() != 0:
        raise Wrong("it did not stop well")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.getrandbits(32) if arguments.seed is None else arguments.seed
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        bar = progress.add_task(f"soak, seed {seed}", total=arguments.seconds)

        async def run() -> Ledger:
            plan = Plan(arguments.seconds)
            task = asyncio.ensure_future(soak(Path(folder), plan, seed, progress.print))
            while not (await asyncio.wait([task], timeout=1))[0]:
                progress.update(bar, completed=time.monotonic() - begin)
            return task.result()

        try:
            ledger = asyncio.run(run())
        except (Wrong, ExceptionGroup) as error:
            first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            progress.print(f"seed {seed}: {first!r}")
            progress.print((Path(folder) / "out").read_text()[-3000:])
            return 1
    print(
        f"{ledger.sent} messages, {ledger.commands} commands, {ledger.kills} kills: nothing was lost, nothing is there"
        " twice, nothing grew"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

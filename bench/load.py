"""The load: one process with raw sockets, as cheap as Python makes it, the same for every server.

`python -m bench.load smtp HOST PORT SESSIONS MESSAGES ACCOUNTS SIZE SEED` and so on; prints JSON.
"""

import asyncio
import json
import math
import random
import resource
import sys
import time
from collections.abc import Callable, Coroutine

DOMAIN = "example.test"

CORPUS = 0
"""In place of a size: sizes as real mail has them, log-normal, median 8 KiB, mean 40 KiB."""
_MEDIAN_OCTETS = 8192
_SIGMA = math.sqrt(2 * math.log(5))
_MOST_OCTETS = 5_000_000


def make_message(
    dice: random.Random, number: int, size: int, author: str = "sender@example.net"
) -> bytes:
    """A plain message of `size` octets with a usual header."""
    head = (
        f"Received: from client.example.net (client.example.net [192.0.2.{number % 250}])\r\n"
        f"\tby relay.example.net (Postfix) with ESMTPS id {dice.getrandbits(40):X}\r\n"
        f"\tfor <user@{DOMAIN}>; Mon, 23 Nov 2026 10:00:{number % 60:02d} +0000\r\n"
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=2026;\r\n"
        f"\tt=1795428000; h=From:To:Subject:Date; bh={'a' * 43}=;\r\n\tb={'b' * 300}\r\n"
        f"From: Sender {number % 97} <{author}>\r\n"
        f"To: User <user@{DOMAIN}>\r\n"
        f"Subject: Report {number} of the week, with a usual subject\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{dice.getrandbits(64):x}.{number}@example.net>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n\r\n"
    ).encode()
    words = (
        "lorem",
        "ipsum",
        "dolor",
        "sit",
        "amet",
        "consectetur",
        "adipiscing",
        "elit",
        "sed",
        "do",
    )
    lines = []
    length = len(head)
    while length < size:
        line = " ".join(dice.choices(words, k=10))[: max(0, min(76, size - length - 2))] + "\r\n"
        lines.append(line)
        length += len(line)
    return head + "".join(lines).encode()


def make_messages(
    dice: random.Random, size: int, author: str = "sender@example.net"
) -> list[bytes]:
    """Two hundred of them; `size` is one for all, or CORPUS."""
    sizes = [size] * 200
    if size == CORPUS:
        drawn = (dice.lognormvariate(math.log(_MEDIAN_OCTETS), _SIGMA) for _ in sizes)
        sizes = [min(int(each), _MOST_OCTETS) for each in drawn]
    return [make_message(dice, number, each, author) for number, each in enumerate(sizes)]


class _Sender(asyncio.Protocol):
    """One SMTP session that sends its messages one after another, commands pipelined as mail servers do (RFC 2920)."""

    def __init__(
        self,
        jobs: list[tuple[bytes, bytes]],
        done: "asyncio.Future[None]",
        sender: str = "sender@example.net",
    ) -> None:
        self._jobs = jobs
        self._mail = f"MAIL FROM:<{sender}>\r\n".encode()
        self._done = done
        self._step = 0
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.greeted: asyncio.Future[None] | None = None
        """If set, it is told when the session is ready for mail, and waits for `begin` then."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"connection lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        lines = received.split(b"\r\n")
        self._received = lines.pop()
        for line in lines:
            if line[3:4] != b"-":
                self._reply(line)

    def begin(self) -> None:
        """Send the first message of a session that waits for it."""
        self.greeted = None
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        self._step = 2 if self._jobs else 6
        self._transport.write(
            self._mail + b"RCPT TO:<" + self._jobs[-1][0] + b">\r\nDATA\r\n"
            if self._jobs
            else b"QUIT\r\n"
        )

    def _reply(self, line: bytes) -> None:
        assert self._transport is not None
        if line[:1] not in b"23":
            if not self._done.done():
                self._done.set_exception(RuntimeError(line.decode()))
            return
        step = self._step
        self._step = step + 1
        if step == 0:
            self._transport.write(b"EHLO load.example.net\r\n")
        elif step == 1 or step == 5:
            if self.greeted is not None:
                self.greeted.set_result(None)
            else:
                self._next()
        elif step == 4:
            self._transport.write(self._jobs.pop()[1])
        elif step == 6:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)


async def send(
    host: str, port: int, sessions: int, messages: int, accounts: int, size: int, seed: int
) -> float:
    """Seconds until every message has its 250."""
    dice = random.Random(seed)
    bodies = [message + b".\r\n" for message in make_messages(dice, size)]
    jobs: list[list[tuple[bytes, bytes]]] = [[] for _ in range(sessions)]
    for number in range(messages):
        user = f"user{dice.randrange(accounts)}@{DOMAIN}".encode()
        jobs[number % sessions].append((user, bodies[number % len(bodies)]))
    loop = asyncio.get_running_loop()
    begin = time.monotonic()
    waiting = []
    for part in jobs:
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda part=part, done=done: _Sender(part, done), host, port)  # type: ignore[misc]
        waiting.append(done)
    await asyncio.gather(*waiting)
    return time.monotonic() - begin


async def submit(
    host: str, port: int, sessions: int, messages: int, domains: int, size: int
) -> float:
    """Seconds until every message from user0 to some of `domains` domains has its 250. Both servers trust this host.
    Says "ready" when all sessions are open, and begins with a line on stdin."""
    dice = random.Random(5)
    author = f"user0@{DOMAIN}"
    bodies = [message + b".\r\n" for message in make_messages(dice, size, author)]
    jobs: list[list[tuple[bytes, bytes]]] = [[] for _ in range(sessions)]
    for number in range(messages):
        recipient = f"user{number}@d{dice.randrange(domains)}.example".encode()
        jobs[number % sessions].append((recipient, bodies[number % len(bodies)]))
    loop = asyncio.get_running_loop()
    waiting = []
    senders = []
    for part in jobs:
        done: asyncio.Future[None] = loop.create_future()
        sender = _Sender(part, done, author)
        sender.greeted = loop.create_future()
        await loop.create_connection(lambda sender=sender: sender, host, port)  # type: ignore[misc]
        await asyncio.wait([sender.greeted, done], return_when=asyncio.FIRST_COMPLETED)
        senders.append(sender)
        waiting.append(done)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begin = time.monotonic()
    for sender in senders:
        sender.begin()
    await asyncio.gather(*waiting)
    return time.monotonic() - begin


def main(arguments: list[str]) -> None:
    """Runs one load in this process and prints seconds and CPU seconds."""
    kind, host, *numbers = arguments
    loads: dict[str, Callable[..., Coroutine[None, None, float]]] = {"smtp": send, "submit": submit}
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    seconds = asyncio.run(loads[kind](host, *map(int, numbers)))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Mail of users: a connection for each message, with STARTTLS and AUTH, as most mail programs do it.

`python -m bench.submission HOST PORT SESSIONS MESSAGES ACCOUNTS` is the load; it prints JSON.
"""

import asyncio
import base64
import json
import random
import resource
import ssl
import sys
import time

from bench.load import DOMAIN, make_message
from bench.pillarbox_server import PillarboxServer
from bench.report import LESS, MORE, Bar, Row, report
from bench.running import (
    Server,
    all_servers,
    cpu_s,
    in_turns,
    new_row,
    run_load,
    seconds_until_quiet,
    settle,
)

SESSIONS = 10
ACCOUNTS = 100
PEER_MESSAGES = 1500
"""At most: in about the same seconds as ours takes its own."""


def run(messages: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    rows = in_turns(
        all_servers(peer, ACCOUNTS, workers), rounds, lambda server: _row(server, messages)
    )
    bars = {
        "messages/s": Bar(3, more_is_better=True),
        "CPU s per 1,000": LESS,
        "load CPU s per 1,000": LESS,
        "load CPU share of both, %": MORE,
    }
    title = (
        "submission: messages of 4 KiB, each by a connection with STARTTLS and AUTH,"
        f" {SESSIONS} at once, medians of {rounds}"
    )
    report(title, rows, bars, save=save)


def _row(server: Server, messages: int) -> Row:
    settle(server)  # all workers are there
    if not isinstance(server, PillarboxServer):
        messages = min(messages, PEER_MESSAGES)
    _send(server, 2 * ACCOUNTS)  # every account exists, and its password was checked once
    settle(server)
    before = cpu_s(server)
    load = _send(server, messages)
    seconds = load["seconds"] + seconds_until_quiet(server)
    settle(server)
    used = cpu_s(server) - before
    if isinstance(server, PillarboxServer):
        used = server.stop_and_count() - before
        server.start_again()
    row = new_row(server)
    row.figures = {
        "messages/s": messages / seconds,
        "CPU s per 1,000": used / messages * 1000,
        "load CPU s per 1,000": load["cpu_s"] / messages * 1000,
        "load CPU share of both, %": load["cpu_s"] / (load["cpu_s"] + used) * 100,
    }
    return row


def _send(server: Server, messages: int) -> dict[str, float]:
    return run_load(server, "bench.submission", *server.submission, SESSIONS, messages, ACCOUNTS)


# The load


async def send(host: str, port: int, sessions: int, messages: int, accounts: int) -> float:
    """Seconds until every message has its 250; each account sends in its turn, to any."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    dice = random.Random(7)
    bodies = [make_message(dice, number, 4096) for number in range(100)]
    numbers = iter(range(messages))

    async def work() -> None:
        for number in numbers:
            author = f"user{number % accounts}@{DOMAIN}"
            recipient = f"user{dice.randrange(accounts)}@{DOMAIN}"
            body = bodies[number % len(bodies)].replace(b"sender@example.net", author.encode())
            await _submit(host, port, context, author, recipient, body)

    begin = time.monotonic()
    await asyncio.gather(*(work() for _ in range(sessions)))
    return time.monotonic() - begin


async def _submit(
    host: str, port: int, context: ssl.SSLContext, author: str, recipient: str, body: bytes
) -> None:
    reader, writer = await asyncio.open_connection(host, port)

    async def say(octets: bytes, *codes: bytes) -> None:
        """Send, and read a reply for each of the codes."""
        writer.write(octets)
        for code in codes:
            line = await reader.readline()
            while line[3:4] == b"-":
                line = await reader.readline()
            if not line.startswith(code):
                raise RuntimeError(f"{line!r} behind {octets[:60]!r}")

    await say(b"", b"220")
    await say(b"EHLO load.example.net\r\n", b"250")
    await say(b"STARTTLS\r\n", b"220")
    await writer.start_tls(context)
    await say(b"EHLO load.example.net\r\n", b"250")
    plain = base64.b64encode(f"\0{author}\0password".encode())
    await say(b"AUTH PLAIN " + plain + b"\r\n", b"235")
    envelope = f"MAIL FROM:<{author}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
    await say(envelope.encode(), b"250", b"250", b"354")
    await say(body + b".\r\n", b"250")
    await say(b"QUIT\r\n", b"221")
    writer.close()


def main(arguments: list[str]) -> None:
    host, *numbers = arguments
    seconds = asyncio.run(send(host, *map(int, numbers)))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime}))


if __name__ == "__main__":
    main(sys.argv[1:])

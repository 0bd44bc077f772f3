"""IMAP sessions at once: logins, and a mixed load; a process of its own, as cheap as Python makes it.

`python -m bench.imap_load logins|mixed HOST PORT TLS SESSIONS COUNT USER`; prints JSON. COUNT: of logins, or s.
"""

import asyncio
import json
import random
import ssl
import sys
import time

from bench.load import DOMAIN, make_message

MIXED_MESSAGES = 100
"""In the INBOX of each account under the mixed load, at its start."""

READ = 1 << 22


class Session:
    """A connection with one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext | None, user: str
    ) -> "Session":
        """Logged in as `user`."""
        made = cls(*await asyncio.open_connection(host, port, ssl=context, limit=READ))
        await made._reader.readline()
        await made.command(f'LOGIN "{user}" "password"'.encode())
        return made

    async def command(self, text: bytes) -> None:
        """Until its tagged OK; raises where it is another answer."""
        self._number += 1
        tag = b"t%d " % self._number
        self._writer.write(tag + text + b"\r\n")
        line = await self._reader.readuntil(b"\r\n")
        while not line.startswith(tag):
            if line.endswith(b"}\r\n") and b"{" in line:
                await self._reader.readexactly(int(line[line.rindex(b"{") + 1 : -3]))
            line = await self._reader.readuntil(b"\r\n")
        if not line.startswith(tag + b"OK"):
            raise RuntimeError(f"{text!r}: {line!r}")

    async def idle(self) -> None:
        """Wait for what comes, from now on."""
        self._writer.write(b"i IDLE\r\n")
        while not (await self._reader.readuntil(b"\r\n")).startswith(b"+"):
            pass

    def close(self) -> None:
        self._writer.close()


async def logins(
    host: str, port: int, context: ssl.SSLContext | None, sessions: int, count: int, first: int
) -> float:
    """Connect, log in, log out, again and again: sessions in a second."""
    left = count

    async def some(user: str) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            session = await Session.open(host, port, context, user)
            await session.command(b"LOGOUT")
            session.close()

    begin = time.perf_counter()
    users = [f"user{first + number}@{DOMAIN}" for number in range(sessions)]
    await asyncio.gather(*(some(user) for user in users))
    return count / (time.perf_counter() - begin)


def _mixed_command(dice: random.Random, message: bytes) -> bytes:
    """One of those that clients use daily."""
    number = dice.randrange(1, MIXED_MESSAGES - 20)
    kind = dice.randrange(10)
    if kind < 2:
        return b"NOOP"
    if kind == 2:
        return b"UID FETCH 1:* (FLAGS)"
    if kind == 3:
        return b"FETCH %d:%d (UID FLAGS ENVELOPE BODYSTRUCTURE INTERNALDATE)" % (
            number,
            number + 20,
        )
    if kind == 4:
        return b"FETCH %d (BODY.PEEK[])" % number
    if kind == 5:
        return b"FETCH %d:%d (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])" % (number, number + 20)
    if kind == 6:
        return b"STORE %d %bFLAGS (\\Seen)" % (number, dice.choice((b"+", b"-")))
    if kind == 7:
        return b"UID SEARCH UNSEEN"
    if kind == 8:
        return b'UID SEARCH SUBJECT "Report %d"' % number
    return b"APPEND INBOX {%d+}\r\n%b" % (len(message), message)


async def mixed(
    host: str, port: int, context: ssl.SSLContext | None, sessions: int, seconds: int, first: int
) -> float:
    """One session for each account, each with one command at a time: commands in a second."""
    done = 0
    open_sessions = []
    for number in range(sessions):
        session = await Session.open(host, port, context, f"user{first + number}@{DOMAIN}")
        await session.command(b"SELECT INBOX")
        open_sessions.append(session)
    begin = time.perf_counter()
    end = begin + seconds

    async def some(number: int, session: Session) -> None:
        nonlocal done
        dice = random.Random(number)
        message = make_message(dice, number, 4096)
        while time.perf_counter() < end:
            await session.command(_mixed_command(dice, message))
            done += 1
        session.close()

    await asyncio.gather(*(some(number, session) for number, session in enumerate(open_sessions)))
    return done / (time.perf_counter() - begin)


def main(arguments: list[str]) -> None:
    """Runs one load in this process and prints its rate."""
    kind, host, *numbers = arguments
    port, tls, sessions, count, first = map(int, numbers)
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    load = {"logins": logins, "mixed": mixed}[kind]
    print(json.dumps({"rate": asyncio.run(load(host, port, context, sessions, count, first))}))


if __name__ == "__main__":
    main(sys.argv[1:])

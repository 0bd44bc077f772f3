"""Small asynchronous clients that know exactly what was acknowledged to them."""

import asyncio
import re

from serverprocess import DOMAIN, PASSWORD


class Smtp:
    """A session with a stranger's rights."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, local: str | None = None) -> "Smtp":
        address = (local, 0) if local else None
        made = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=address))
        await made.reply()
        await made.say("EHLO client.example.org")
        return made

    async def reply(self) -> str:
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode()
            if line[3] == " ":
                return line.strip()

    async def say(self, line: str) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await self.reply()

    async def send(self, recipients: list[str], message: bytes) -> str:
        """The reply to the final dot, or the first refusal. `message` ends with CRLF and needs no dots stuffed."""
        lines = [
            "MAIL FROM:<sender@example.org>",
            *(f"RCPT TO:<{one}>" for one in recipients),
            "DATA",
        ]
        for line in lines:
            answer = await self.say(line)
            if answer[0] not in "23":
                return answer
        self.writer.write(message + b".\r\n")
        return await self.reply()

    def close(self) -> None:
        self.writer.close()


class Imap:
    """A logged-in session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0

    @classmethod
    async def connect(cls, port: int, user: int) -> "Imap":
        made = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26))
        await made.reader.readline()
        assert (await made.command(f"LOGIN user{user}@{DOMAIN} {PASSWORD}"))[-1].startswith(b"OK")
        return made

    async def command(self, text: str, literal: bytes | None = None) -> list[bytes]:
        """Untagged lines (literals joined in), then the tagged one without its tag."""
        self.number += 1
        tag = f"x{self.number}".encode()
        self.writer.write(tag + b" " + text.encode())
        if literal is not None:
            self.writer.write(b" {%d+}\r\n" % len(literal) + literal)
        self.writer.write(b"\r\n")
        lines = []
        while True:
            line = await self.line()
            if line.startswith(tag + b" "):
                return [*lines, line[len(tag) + 1 :]]
            lines.append(line)

    async def line(self) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        while match := re.search(rb"\{(\d+)\}\r\n$", line):
            line += await self.reader.readexactly(int(match[1]))
            line += await self.reader.readuntil(b"\r\n")
        return line[:-2]

    async def mailbox(self) -> dict[int, tuple[bytes, set[bytes]]]:
        """INBOX as {uid: (octets, flags)}."""
        await self.command("SELECT INBOX")
        found = {}
        for line in (await self.command("UID FETCH 1:* (FLAGS BODY.PEEK[])"))[:-1]:
            match = re.match(
                rb"\* \d+ FETCH \((?:UID (\d+) )?FLAGS \(([^)]*)\)(?: UID (\d+))? BODY\[\] \{(\d+)\}\r\n",
                line,
            )
            if match:
                start = match.end()
                uid = int(match[1] or match[3] or 0)
                octets = line[start : start + int(match[4])]
                if not uid:
                    uid = int(re.search(rb"UID (\d+)", line[start + int(match[4]) :])[1])
                found[uid] = (octets, set(match[2].split()))
        return found

    def close(self) -> None:
        self.writer.close()

"""A small Internet on loopback: a DNS server with a zone, and SMTP hosts with scripted behaviour."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_subnets = itertools.count(1)


class _DnsProtocol(asyncio.DatagramProtocol):
    def __init__(self, internet: "Internet") -> None:
        self.internet = internet

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        answer = self.internet.answer(dns.message.from_wire(data))
        if answer is not None:
            self.transport.sendto(answer.to_wire(), address)


@dataclass
class Received:
    """What a host took."""

    sender: str
    recipients: list[str]
    octets: bytes
    commands: list[str] = field(default_factory=list)
    """MAIL and RCPT as they were said."""


@dataclass
class Script:
    """Replies by stage: text, or a function of the recipient (rcpt only); "drop" closes, "silence" says nothing."""

    greeting: str = "220 host ESMTP"
    ehlo: str = "250-host\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000"
    mail: str = "250 2.1.0 Ok"
    rcpt: str | Callable[[str], str] = "250 2.1.5 Ok"
    data: str = "354 go on"
    dot: str = "250 2.0.0 Ok"
    delay_dot_s: float = 0.0
    starttls: str = ""
    """After its 220: "garbage", "close" or "silence"; such a host takes mail in the clear."""
    one_message: bool = False
    """It closes behind the reply to the dot."""
    messages_a_session: int = 1_000_000
    """Then MAIL gets a 421."""
    most_sessions: int = 1_000_000
    """Others are greeted with 421."""


@dataclass
class Host:
    """An SMTP server on an address of its own."""

    address: str
    script: Script = field(default_factory=Script)
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    sessions: int = 0
    server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.sessions += 1
        try:
            if self.sessions > self.script.most_sessions:
                writer.write(b"421 4.7.0 too many sessions\r\n")
            else:
                await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.sessions -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            if text == "silence":
                await asyncio.sleep(3600)
            if text == "drop":
                raise ConnectionResetError
            writer.write(text.encode() + b"\r\n")

        script = self.script
        await say(script.greeting)
        sender, recipients, begun, messages, is_lmtp = "", [], False, 0, False
        said: list[str] = []
        while True:
            line = (await reader.readuntil(b"\r\n")).decode().strip()
            verb = line[:4].upper()
            if verb in ("EHLO", "HELO", "LHLO"):
                is_lmtp = verb == "LHLO"
                await say(script.ehlo)
            elif verb == "STAR":
                await say("220 go on")
                if script.starttls == "silence":
                    await asyncio.sleep(3600)
                await reader.read(
                    1
                )  # of the ClientHello: what comes before it would be an injection
                await say("\0garbage" * 10 if script.starttls == "garbage" else "drop")
            elif verb == "MAIL" and messages >= script.messages_a_session:
                await say("421 4.7.0 enough of this session")
                return
            elif verb == "MAIL":
                sender, recipients = line[line.index("<") + 1 : line.index(">")], []
                said = [line]
                begun = script.mail.startswith("2")
                await say(script.mail)
            elif verb == "RCPT" and not begun:
                await say("503 5.5.1 MAIL first")
            elif verb == "RCPT":
                recipient = line[line.index("<") + 1 : line.index(">")]
                reply = script.rcpt(recipient) if callable(script.rcpt) else script.rcpt
                if reply.startswith("2"):
                    recipients.append(recipient)
                    said.append(line)
                await say(reply)
            elif verb == "DATA":
                await say(script.data if recipients else "554 no recipients")
                if not script.data.startswith("3") or not recipients:
                    continue
                octets = await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(script.delay_dot_s)
                if script.dot.startswith("2"):
                    body = octets[:-3].replace(b"\r\n..", b"\r\n.")
                    self.received.append(Received(sender, recipients, body, said))
                for _ in recipients if is_lmtp else [""]:
                    await say(script.dot)
                messages += 1
                if script.one_message:
                    return
            elif verb == "QUIT":
                await say("221 bye")
                return
            else:
                await say("250 ok")

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None


class Internet:
    """`async with Internet() as net`: then `net.zone`, `await net.host(...)`, `net.dns` (address and port)."""

    def __init__(self) -> None:
        self.subnet = f"127.{10 + next(_subnets) % 200}.0"
        self.zone: dict[tuple[str, str], list[str] | str] = {}
        """(name, type) -> record texts, or "SERVFAIL", "silence"."""
        self.hosts: dict[str, Host] = {}
        self.port = 0
        self.dns = ("127.0.0.1", 0)
        self.questions: list[tuple[str, str]] = []

    async def __aenter__(self) -> "Internet":
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _DnsProtocol(self), local_addr=("127.0.0.1", 0)
        )
        self.dns = self._transport.get_extra_info("sockname")[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        for host in self.hosts.values():
            host.stop()

    async def host(self, name: str, **script) -> Host:
        """A host with an A record; all hosts listen on one port, each on its own address."""
        made = Host(f"{self.subnet}.{len(self.hosts) + 1}", Script(**script))
        self.hosts[name] = made
        self.zone[name, "A"] = [made.address]
        await self.start(name)
        return made

    async def start(self, name: str) -> None:
        host = self.hosts[name]
        host.server = await asyncio.start_server(host.serve, host.address, self.port, limit=1 << 24)
        self.port = host.server.sockets[0].getsockname()[1]

    def mx(self, domain: str, *records: tuple[int, str]) -> None:
        self.zone[domain, "MX"] = [f"{preference} {host}." for preference, host in records]

    def answer(self, question: dns.message.Message) -> dns.message.Message | None:
        asked = question.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.questions.append((name, kind))
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.RA
        found = self.zone.get((name, kind))
        if found == "silence":
            return None
        if found == "SERVFAIL":
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif found:
            reply.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", kind, found))
        elif not any(known == name for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

"""Where relayed mail goes: SMTP hosts on many loopback addresses, and the DNS that names them, in one process.

`python -m bench.sink PORT DNS_PORT DOMAINS` serves `d0.example` and so on, host N on 127.2.0.N+1; each line on stdin is
answered with the number of messages that arrived and the CPU seconds that were used for them.
"""

import asyncio
import sys
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class _Host(asyncio.Protocol):
    """Takes everything, pipelined or not."""

    received = 0

    def __init__(self) -> None:
        self._rest = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        replies = []
        while True:
            if self._in_data:
                end = self._rest.find(b"\r\n.\r\n")
                if end < 0:
                    break
                self._rest = self._rest[end + 5 :]
                self._in_data = False
                _Host.received += 1
                replies.append(b"250 2.0.0 Ok\r\n")
                continue
            line, found, rest = self._rest.partition(b"\r\n")
            if not found:
                break
            self._rest = rest
            verb = line[:4].upper()
            if verb == b"EHLO":
                replies.append(
                    b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 20000000\r\n"
                )
            elif verb == b"DATA":
                self._in_data = True
                replies.append(b"354 go\r\n")
            elif verb == b"QUIT":
                replies.append(b"221 bye\r\n")
            else:
                replies.append(b"250 2.0.0 Ok\r\n")
        if replies:
            self._transport.write(b"".join(replies))


class _Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        reply = dns.message.make_response(question)
        number = name.removeprefix("mx.").removeprefix("d").removesuffix(".example")
        record = ""
        if asked.rdtype == dns.rdatatype.MX and name.startswith("d"):
            record = f"10 mx.{name}."
        elif asked.rdtype == dns.rdatatype.A and name.startswith("mx.") and number.isdigit():
            record = host_address(int(number))
        if record:
            kind = dns.rdatatype.to_text(asked.rdtype)
            reply.answer.append(dns.rrset.from_text(asked.name, 300, "IN", kind, record))
        self._transport.sendto(reply.to_wire(), address)


def host_address(number: int) -> str:
    """The address of the host of domain `number`."""
    return f"127.2.0.{number + 1}"


async def serve(port: int, dns_port: int, domains: int) -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    for number in range(domains):
        await loop.create_server(_Host, host_address(number), port)
    await loop.create_datagram_endpoint(_Dns, local_addr=("127.0.0.1", dns_port))
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(_Host.received, time.process_time(), flush=True)


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(serve(*map(int, sys.argv[1:])))

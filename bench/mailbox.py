"""The reading side of the load: IMAP FETCH and POP3 RETR by one client over a raw socket."""

import random
import socket
import time

from bench.load import make_message

_READ = 1 << 20


class Client:
    """A blocking connection that reads whole answers as fast as it can."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self.octets = 0

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def line(self) -> bytes:
        """The next line."""
        while b"\n" not in self._rest:
            self._fill()
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"

    def until(self, mark: bytes) -> bytes:
        """Read up to a line that starts with `mark`, given as b"\\r\\n" + start; returns that line."""
        tail = b"\r\n" + self._rest
        self._rest = b""
        while True:
            place = tail.find(mark)
            if place >= 0:
                end = tail.find(b"\r\n", place + 2)
                if end >= 0:
                    self._rest = tail[end + 2 :]
                    return tail[place + 2 : end]
                tail = tail[place:] + self._receive()
            else:
                tail = tail[-len(mark) :] + self._receive()

    def _receive(self) -> bytes:
        data = self._socket.recv(_READ)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.octets += len(data)
        return data

    def _fill(self) -> None:
        self._rest += self._receive()

    def close(self) -> None:
        self._socket.close()


class Imap(Client):
    """Logged in as `user`."""

    def __init__(self, address: tuple[str, int], user: str) -> None:
        super().__init__(address)
        self._number = 0
        self.line()
        self.command(f'LOGIN "{user}" "password"')

    def command(self, text: str) -> float:
        """Seconds until its tagged OK."""
        self._number += 1
        tag = f"t{self._number}"
        begin = time.perf_counter()
        self.send(f"{tag} {text}\r\n".encode())
        answer = self.until(f"\r\n{tag} ".encode())
        seconds = time.perf_counter() - begin
        if not answer.startswith(f"{tag} OK".encode()):
            raise RuntimeError(f"{text}: {answer!r}")
        return seconds

    def messages(self) -> int:
        """How many messages INBOX has."""
        self.send(b"s1 STATUS INBOX (MESSAGES)\r\n")
        count = -1
        while True:
            line = self.line()
            if line.startswith(b"* STATUS"):
                count = int(line.rpartition(b" ")[2].strip(b" )\r\n"))
            if line.startswith(b"s1 "):
                return count

    def fill(self, messages: int, size: int) -> None:
        """Append messages to INBOX, some at a time."""
        dice = random.Random(3)
        bodies = [make_message(dice, number, size) for number in range(100)]
        for start in range(0, messages, 20):
            batch = range(start, min(start + 20, messages))
            self.send(
                b"".join(
                    b"f%d APPEND INBOX {%d+}\r\n%b\r\n"
                    % (number, len(bodies[number % 100]), bodies[number % 100])
                    for number in batch
                )
            )
            for number in batch:
                answer = self.until(b"\r\nf%d " % number)
                if b" OK" not in answer:
                    raise RuntimeError(answer.decode())


class Pop3(Client):
    """Logged in as `user`."""

    def __init__(self, address: tuple[str, int], user: str) -> None:
        super().__init__(address)
        self.line()
        for text in (f"USER {user}", "PASS password"):
            self.send(f"{text}\r\n".encode())
            answer = self.line()
            if not answer.startswith(b"+OK"):
                raise RuntimeError(answer.decode())

    def end_of_message(self) -> None:
        """Read up to the line that is a lone dot."""
        rest = self._rest
        while (place := rest.find(b"\r\n.\r\n")) < 0:
            rest = rest[-4:] + self._receive()
        self._rest = rest[place + 5 :]

    def retrieve_all(self, messages: int, *, window: int) -> float:
        """Seconds to RETR messages 1 to `messages`, `window` commands ahead (1: one at a time)."""
        begin = time.perf_counter()
        sent = 0
        for done in range(messages):
            while sent < min(messages, done + window):
                sent += 1
                self.send(b"RETR %d\r\n" % sent)
            self.end_of_message()
        return time.perf_counter() - begin

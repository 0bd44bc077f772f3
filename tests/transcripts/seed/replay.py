"""Replays a transcript: which lines a client sends, which the server must answer. The notation: `smtp.txt`.

As a command it replays files, each at a fresh server of `pillarbox.testing`:
`python tests/transcripts/seed/replay.py FILE...`
"""

import argparse
import re
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


class Wire(Protocol):
    """Lines without their ends."""

    def send(self, line: str) -> None: ...

    def receive(self) -> str: ...

    def close(self) -> None: ...


class PlainSocket:
    """A TCP connection in the clear."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._file = self._socket.makefile("rwb")

    def send(self, line: str) -> None:
        self._file.write(line.encode() + b"\r\n")
        self._file.flush()

    def receive(self) -> str:
        return self._file.readline().decode().removesuffix("\r\n")

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class OpenSsl:
    """`openssl s_client -quiet -crlf`, as a person types into it."""

    def __init__(self, host: str, port: int, ca_file: Path, starttls: str | None = None) -> None:
        command = ["openssl", "s_client", "-quiet", "-crlf", "-verify_return_error"]
        command += ["-CAfile", str(ca_file), "-connect", f"{host}:{port}"]
        command += ["-starttls", starttls] if starttls else []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def send(self, line: str) -> None:
        _of(self._process.stdin).write(line.encode() + b"\n")
        _of(self._process.stdin).flush()

    def receive(self) -> str:
        return _of(self._process.stdout).readline().decode().removesuffix("\n").removesuffix("\r")

    def close(self) -> None:
        _of(self._process.stdin).close()
        self._process.wait(10)
        _of(self._process.stdout).close()


def _of(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


@dataclass
class Line:
    """`kind` is C, S or >."""

    kind: str
    text: str


def read_transcript(path: Path) -> list[Line]:
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("C:"):
            lines.append(Line("C", line[3:]))
        elif line.startswith("S:"):
            lines.append(Line("S", line[3:]))
        elif line.startswith("S>"):
            lines.append(Line(">", line[3:]))
        else:
            assert line.startswith("#"), line
    return lines


_PLACEHOLDER = re.compile(r"\{(n|id|text|more|superset|quoted)(?: ([^}]*))?\}")
_PATTERNS = {"n": r"\d+", "id": r"[0-9A-Za-z]+", "text": ".*", "more": "[- ]", "superset": "(.*)"}


def matches(expected: str, line: str) -> bool:
    pattern, wanted, end = "", [], 0
    for placeholder in _PLACEHOLDER.finditer(expected):
        pattern += re.escape(expected[end : placeholder.start()])
        kind, argument = placeholder.groups()
        if kind == "quoted":
            pattern += f'(?:"{re.escape(argument)}"|{re.escape(argument)})'
        else:
            pattern += _PATTERNS[kind]
        if kind == "superset":
            wanted.append(set(argument.split()))
        end = placeholder.end()
    found = re.fullmatch(pattern + re.escape(expected[end:]), line)
    if found is None:
        return False
    return all(
        words <= set(given.split()) for words, given in zip(wanted, found.groups(), strict=True)
    )


def replay(lines: list[Line], wire: Wire, is_last: Callable[[str], bool]) -> None:
    """`is_last` says whether a line ends an answer of several lines that no S: line ends."""
    waiting: list[str] = []
    pending: str | None = None  # the S: line that ended a group was received with it
    for index, line in enumerate(lines):
        if line.kind == "C":
            wire.send(line.text)
        elif line.kind == "S":
            received = wire.receive() if pending is None else pending
            pending = None
            assert matches(line.text, received), f"expected {line.text!r}, got {received!r}"
        else:
            waiting.append(line.text)
            following = lines[index + 1]
            if following.kind != ">":
                pending = _receive_all(waiting, wire, following, is_last)
                waiting = []


def _receive_all(
    waiting: list[str], wire: Wire, following: Line, is_last: Callable[[str], bool]
) -> str | None:
    """All of a group; returns the line after it, if it was needed to see the end."""
    missing = set(waiting)
    received = []
    while True:
        received.append(wire.receive())
        if following.kind == "S" and matches(following.text, received[-1]):
            break
        missing -= {text for text in missing if matches(text, received[-1])}
        if following.kind == "C" and is_last(received[-1]):
            break
        assert len(received) < 200, received
    assert not missing, f"missing: {missing} in {received}"
    return received[-1] if following.kind == "S" else None


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if an answer was another than in its transcript."""
    parser = argparse.ArgumentParser(description="Replay transcripts, each at a fresh server.")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    failures = 0
    for path in parser.parse_args(arguments).files:
        try:
            _replay_file(path)
        except (AssertionError, OSError, ValueError) as error:
            failures += 1
            print(f"{path}: {getattr(error, 'strerror', None) or error}")
        else:
            print(f"{path}: ok")
    return 1 if failures else 0


def _replay_file(path: Path) -> None:
    """The first line tells the protocol. Logged in is user@example.com, who has three messages."""
    from pillarbox.testing import MailServer

    lines = read_transcript(path)
    if not lines:
        raise ValueError("it has no lines")
    first = lines[0].text
    smtp = "submission" if ": submission" in path.read_text().partition("\n")[0] else "smtp"
    service = "imap" if first.startswith("* ") else "pop3" if first.startswith("+OK") else smtp
    accounts = {"user@example.com": "password", "recipient@example.com": "password"}
    with MailServer(accounts, hostname="mail.example.com", allow_cleartext_login=True) as server:
        with smtplib.SMTP(server.host, server.ports["smtp"], timeout=10) as client:
            for _ in range(3):
                text = "Subject: Hello\r\n\r\n...message content...\r\n"
                client.sendmail("sender@example.com", "user@example.com", text)
        wire = PlainSocket(server.host, server.ports[service])
        try:
            replay(lines, wire, lambda line: line[3:4] == " ")
        finally:
            wire.close()


if __name__ == "__main__":
    sys.exit(main())

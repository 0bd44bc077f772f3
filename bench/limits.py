"""What the parts of our work that are not Python cost here by themselves: the floor under the other tables."""

import os
import random
import socket
import sqlite3
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import make_message
from bench.process import machine_cpu_s, make_certificate
from bench.report import Row, show
from bench.running import FOLDER

SMTP_TURNS = 5
"""Reads and writes that a message of a session takes: MAIL, RCPT, DATA, the message, and the next one's MAIL."""


def run(times: int, *, save: bool) -> None:
    message = make_message(random.Random(1), 1, 4096)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        rows = [
            _sync(folder, message, times),
            _copy(message, times),
            _turns(message, times),
            _insert(folder, message, times),
            _handshake(folder, max(1, times // 10)),
        ]
    lines = [[row.name, *(f"{value:,.4f}" for value in row.figures.values())] for row in rows]
    show("limits: what nobody can do without", ["one of", *rows[0].figures], lines, rows, save=save)


def _timed(name: str, work: Callable[[], object], times: int) -> Row:
    """CPU is that of the whole machine, so it holds what the kernel does later or elsewhere; run alone."""
    began, machine = time.perf_counter(), machine_cpu_s()
    for _ in range(times):
        work()
    wall_s, cpu_s = time.perf_counter() - began, machine_cpu_s() - machine
    return Row(name, {"ms": wall_s / times * 1000, "CPU ms of the machine": cpu_s / times * 1000})


def _sync(folder: Path, message: bytes, times: int) -> Row:
    descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work() -> None:
        os.write(descriptor, message)
        os.fdatasync(descriptor)

    try:
        return _timed("write of 4 KiB and fdatasync", work, times)
    finally:
        os.close(descriptor)


def _copy(message: bytes, times: int) -> Row:
    return _timed("copy of 4 KiB in memory", lambda: bytearray(message), times * 100)


def _turns(message: bytes, times: int) -> Row:
    """Both ends are here, so half of it is the client's."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    pieces = [b"x" * 30] * (SMTP_TURNS - 1) + [message]

    def work() -> None:
        for piece in pieces:
            client.sendall(piece)
            server.recv(65536)
            server.sendall(b"250 2.0.0 OK\r\n")
            client.recv(65536)

    with listener, client, server:
        return _timed(f"{SMTP_TURNS} commands and replies by TCP, both ends", work, times)


def _insert(folder: Path, message: bytes, times: int) -> Row:
    """As an account's file has them; 28 in a transaction, no sync."""
    connection = sqlite3.connect(folder / "file.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;")
    connection.execute("CREATE TABLE content (id INTEGER PRIMARY KEY, head BLOB, octets BLOB)")
    batch = [(message[:600], message)] * 28

    def work() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO content (head, octets) VALUES (?, ?)", batch)
        connection.execute("COMMIT")

    try:
        row = _timed(
            "row of 4 KiB in SQLite, 28 in a transaction, no sync", work, max(1, times // 28)
        )
    finally:
        connection.close()
    row.figures = {name: value / len(batch) for name, value in row.figures.items()}
    return row


def _handshake(folder: Path, times: int) -> Row:
    """TLS 1.3, P-256, no resumption, no sockets: both ends."""
    make_certificate(folder)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_mode = ssl.CERT_NONE

    def work() -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_side.wrap_bio(down, up)
        server = server_side.wrap_bio(up, down, server_side=True)
        waiting = [client, server]
        while waiting:
            side = waiting.pop(0)
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(side)

    return _timed("TLS handshake, both ends", work, times)

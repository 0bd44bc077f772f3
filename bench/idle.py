"""What sessions that wait cost, and how soon a server is there."""

import asyncio
import socket
import ssl
import time

from bench.imap_load import Session
from bench.load import DOMAIN
from bench.report import Bar, Row, report
from bench.running import Server, all_servers, in_turns, new_row, settle

ACCOUNTS = 100

WAIT_S = 75
"""Sessions in IDLE mostly wait for hours."""

_BARS = {
    "1,000 sessions, MiB": Bar(3, at_most=150),
    "1,000 sessions with TLS, MiB": Bar(3, at_most=300),
    "start to first banners, s": Bar(0, at_most=1),
    "nobody there, MiB": Bar(0),
}


def run(sessions: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    rows = in_turns(
        all_servers(peer, ACCOUNTS, workers), rounds, lambda server: _row(server, sessions)
    )
    bars = {name.replace("1,000", f"{sessions:,}"): bar for name, bar in _BARS.items()}
    title = f"idle: {sessions} IMAP sessions in IDLE for {WAIT_S} s, memory (PSS) of all, medians of {rounds}"
    report(title, rows, bars, save=save)


def _row(server: Server, sessions: int) -> Row:
    row = new_row(server)
    settle(server)
    row.figures["nobody there, MiB"] = _memory(server)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, address, tls in (
        (f"{sessions:,} sessions, MiB", server.imap, None),
        (f"{sessions:,} sessions with TLS, MiB", server.imaps, context),
    ):
        row.figures[name] = asyncio.run(_wait(server, address, tls, sessions))
        settle(server)
    server.stop()
    begin = time.monotonic()
    server.start_again()
    for port in (server.smtp[1], server.imap[1]):
        _wait_for_banner(port)
    row.figures["start to first banners, s"] = time.monotonic() - begin
    return row


def _memory(server: Server) -> float:
    return sum(tree.pss_kib() for tree in server.trees()) / 1024


async def _wait(
    server: Server, address: tuple[str, int], tls: ssl.SSLContext | None, sessions: int
) -> float:
    """MiB of the server while they are all in IDLE."""
    opened = []
    for number in range(sessions):
        session = await Session.open(*address, tls, f"user{number % ACCOUNTS}@{DOMAIN}")
        await session.command(b"SELECT INBOX")
        await session.idle()
        opened.append(session)
    await asyncio.sleep(WAIT_S)
    memory = _memory(server)
    for session in opened:
        session.close()
    return memory


def _wait_for_banner(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 30) as client:
                if client.recv(100):
                    return
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"port {port} says nothing")

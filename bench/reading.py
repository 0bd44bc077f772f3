"""What one client reads of one mailbox: FETCH of all, RETR of all."""

from bench.load import DOMAIN
from bench.mailbox import Imap, Pop3
from bench.report import Bar, Row, report
from bench.running import Server, all_servers, cpu_s, in_turns, new_row, settle

_USER = f"user0@{DOMAIN}"

PASSES = 5
"""Of a round, over the mailbox by POP3, each a second or less: the machine's speed changes within that; the best one
counts, and the CPU of all."""

_FETCHES = {
    "SELECT": "SELECT INBOX",
    "FLAGS": "FETCH 1:* (FLAGS)",
    "ENVELOPE+BODYSTRUCTURE+SIZE+DATE": "FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE)",
    "HEADER.FIELDS": "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)])",
    "BODY.PEEK[]": "FETCH 1:* (BODY.PEEK[])",
}

_POP3_BARS = {
    "one at a time/s": Bar(1.2, more_is_better=True),
    "pipelined/s": Bar(1.5, more_is_better=True),
    "CPU ms per 1,000": Bar(1 / 0.75),
}


def run_fetch(messages: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    rows = in_turns(all_servers(peer, 1, workers), rounds, lambda server: _fetch(server, messages))
    title = f"fetch: {messages} messages of 4 KiB, caches warm, milliseconds, medians of {rounds}"
    report(title, rows, dict.fromkeys(_FETCHES, Bar()), save=save)


def _fetch(server: Server, messages: int) -> Row:
    client = Imap(server.imap, _USER)
    client.fill(messages, 4096)
    settle(server)
    client.command("SELECT INBOX")
    row = new_row(server)
    for name, command in _FETCHES.items():
        row.figures[name] = min(client.command(command) for _ in range(3)) * 1000
    client.close()
    return row


def run_pop3(messages: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    rows = in_turns(all_servers(peer, 1, workers), rounds, lambda server: _pop3(server, messages))
    title = f"pop3: RETR of {messages} messages of 4 KiB, medians of {rounds}"
    report(title, rows, _POP3_BARS, save=save)


def _pop3(server: Server, messages: int) -> Row:
    client = Imap(server.imap, _USER)
    client.fill(messages, 4096)
    client.close()
    settle(server)
    row = new_row(server)
    before = cpu_s(server)
    runs = 0
    for name, window in (("one at a time/s", 1), ("pipelined/s", 10)):
        best = 0.0
        for _ in range(PASSES):
            session = Pop3(server.pop3, _USER)
            best = max(best, messages / session.retrieve_all(messages, window=window))
            session.send(b"QUIT\r\n")
            session.line()
            session.close()
            runs += 1
        row.figures[name] = best
    row.figures["CPU ms per 1,000"] = (cpu_s(server) - before) / (runs * messages) * 1e6
    return row

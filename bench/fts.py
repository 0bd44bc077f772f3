"""Full-text search where both sides have an index: Dovecot with its plugin fts_xapian from Debian."""

import resource
import subprocess
import time
from functools import partial
from statistics import median

from bench.imap import fill, wait_for_index
from bench.load import DOMAIN
from bench.mailbox import Imap
from bench.peer import PostfixDovecot
from bench.pillarbox_server import PillarboxServer
from bench.report import LESS, Bar, Row, report
from bench.running import Make, Server, cpu_s, in_turns, new_row, settle

USER = f"user0@{DOMAIN}"
SEARCHES = {
    "SEARCH TEXT, one is found": 'SEARCH TEXT "needle7777"',
    "SEARCH TEXT, nothing is found": 'SEARCH TEXT "haystack"',
    "SEARCH BODY, two words": 'SEARCH BODY "needle7777" BODY "lorem"',
}
"""Words that begin where a word begins: others this plugin does not find."""

BARS = {
    **dict.fromkeys(SEARCHES, Bar(5)),
    "making the index, s": LESS,
    "making the index, CPU s": LESS,
}


def run(messages: int, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    makes: list[Make] = [partial(PillarboxServer, accounts=1, workers=workers)]
    if peer:
        makes.insert(0, partial(PostfixDovecot, accounts=1, mailbox_format="sdbox", has_fts=True))
    rows = in_turns(makes, rounds, lambda server: _row(server, messages))
    title = f"fts: {messages} messages of 4 KiB, milliseconds or as said, medians of {rounds}"
    report(title, rows, BARS, save=save)


def _row(server: Server, messages: int) -> Row:
    row = new_row(server)
    client = Imap(server.imap, USER)
    fill(client, messages)
    client.command("SELECT INBOX")
    settle(server)
    began, used = time.monotonic(), cpu_s(server)
    if isinstance(server, PillarboxServer):
        client.command(SEARCHES["SEARCH TEXT, one is found"])  # from now on, an index is wanted
        ended = wait_for_index(server)
    else:
        used -= _doveadm_index(server)
        ended = time.monotonic()
    row.figures["making the index, s"] = ended - began
    row.figures["making the index, CPU s"] = cpu_s(server) - used
    for name, command in SEARCHES.items():
        client.command(command)
        row.figures[name] = median(client.command(command) for _ in range(5)) * 1000
    client.close()
    return row


def _doveadm_index(server: PostfixDovecot) -> float:
    """Have Dovecot make its index; returns what the program that does it took of CPU, in seconds."""
    command = ["doveadm", "-c", str(server.folder / "dovecot.conf"), "index", "-u", USER, "INBOX"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

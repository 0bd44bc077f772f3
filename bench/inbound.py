"""Mail from strangers by SMTP, a message for one account each."""

from dataclasses import dataclass

from bench.load import CORPUS
from bench.pillarbox_server import PillarboxServer
from bench.process import machine_cpu_s
from bench.relay import sink
from bench.report import CORES, LESS, MORE, Bar, Row, report
from bench.running import (
    Server,
    all_servers,
    cpu_s,
    delivered,
    in_turns,
    new_row,
    run_load,
    seconds_until_quiet,
    settle,
)

PEER_MESSAGES = 2000
"""At most: in about the same seconds as ours takes its own, so that what a start and an end cost weighs alike."""

LARGE = 32 * 1024
"""Octets; of messages over this, copying and syncing is the most of the work, for everybody."""


@dataclass(slots=True, frozen=True)
class Mail:
    """What comes."""

    messages: int = 15_000
    sessions: int = 10
    accounts: int = 100
    size: int = 4096
    """Octets of each; CORPUS: as real mail has them."""

    @property
    def times(self) -> float:
        """How many times the peer's rate, and its CPU, is wanted."""
        return 6 if self.size > LARGE else 10

    @property
    def title(self) -> str:
        size = "sizes as in real mail" if self.size == CORPUS else f"{self.size} octets"
        return f"inbound: {size}, {self.sessions} sessions, {self.accounts} accounts"


def run(mail: Mail, *, peer: bool, rounds: int, workers: int, save: bool) -> None:
    makes = all_servers(peer, mail.accounts, workers)
    with sink(1):  # a DNS server that answers: Pillarbox asks whether the sender's domain exists
        rows = in_turns(makes, rounds, lambda server: measure_mail(server, mail))
    bars = {
        "messages/s": Bar(mail.times, more_is_better=True),
        "CPU s per 1,000": Bar(mail.times),
        "of the machine, CPU s per 1,000": LESS,
        "load CPU share, %": MORE,
    }
    report(f"{mail.title}, medians of {rounds}", rows, bars, save=save)


def measure_mail(server: Server, mail: Mail) -> Row:
    """Until all is delivered, and all background work is done."""
    settle(server)  # all workers are there
    accounts, messages = mail.accounts, mail.messages
    if not isinstance(server, PillarboxServer):
        messages = min(messages, PEER_MESSAGES)
    warm = max(accounts * 2, 200)
    send_mail(
        server, mail.sessions, warm, accounts, mail.size, 2
    )  # every account is there and warm
    settle(server)
    had = delivered(server, accounts)
    before, machine_before = cpu_s(server), machine_cpu_s()
    load = send_mail(server, mail.sessions, messages, accounts, mail.size, 1)
    seconds = load["seconds"] + seconds_until_quiet(server)
    settle(server)
    used = cpu_s(server) - before
    if isinstance(server, PillarboxServer):
        used = server.stop_and_count() - before  # what it puts off until its end counts too
    machine = machine_cpu_s() - machine_before - load["cpu_s"]
    if isinstance(server, PillarboxServer):
        server.start_again()
    arrived = delivered(server, accounts) - had
    row = new_row(server)
    if arrived != messages:
        row.notes.append(f"only {arrived} of {messages} arrived")
    row.figures = {
        "messages/s": messages / seconds,
        "CPU s per 1,000": used / messages * 1000,
        "of the machine, CPU s per 1,000": machine / messages * 1000,
        "load CPU share, %": load["cpu_s"] / (seconds * CORES) * 100,
    }
    if load["cpu_s"] > used:
        share = load["cpu_s"] / (load["cpu_s"] + used)
        row.notes.append(f"the load took {share:.0%} of the CPU used: the rate says little")
    return row


def send_mail(server: Server, *numbers: int) -> dict[str, float]:
    """Sessions, messages, accounts, octets (or CORPUS) and the seed; returns what the load tells."""
    return run_load(server, "bench.load", "smtp", *server.smtp, *numbers)

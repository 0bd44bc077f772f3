"""`python -m bench all`, and each of its parts: see the package."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from bench import fts, growth, idle, imap, inbound, limits, reading, relay, slow_disk, submission
from bench.inbound import Mail
from bench.load import CORPUS
from bench.report import PEER_SETTINGS, console, machine_line
from bench.running import wait_for_turn

PEER = "postfix-dovecot"

INBOUND = (
    *(Mail(sessions=sessions, accounts=accounts) for sessions in (10, 50) for accounts in (1, 100)),
    Mail(messages=5000, size=65_536),
    Mail(messages=5000, size=CORPUS),
)
"""The mail of `bench all`."""


@click.group()
@click.option("--workers", default=0, help="processes of Pillarbox; 0: one for each core")
def main(workers: int) -> None:
    """Compare Pillarbox with Postfix + Dovecot on this machine, on loopback."""
    wait_for_turn()
    console.print(machine_line())


def _contest(function: Callable[..., None]) -> Callable[..., None]:
    """--peer, --rounds and --save, and the number of workers."""

    @click.option("--peer", type=click.Choice([PEER]), help="run this peer too; needs root")
    @click.option(
        "--rounds", default=3, show_default=True, help="how often each server has its turn"
    )
    @click.option("--save", is_flag=True, help="put the table into bench/RESULTS.md")
    @wraps(function)
    def wrapper(*arguments: Any, peer: str | None, **more: Any) -> None:
        if peer:
            console.print(PEER_SETTINGS)
        function(*arguments, peer=bool(peer), workers=_workers(), **more)

    return wrapper


def _workers() -> int:
    workers: int = click.get_current_context().find_root().params["workers"]
    return workers


@main.command("inbound")
@_contest
@click.option("--messages", default=15_000, show_default=True)
@click.option("--sessions", default=10, show_default=True)
@click.option("--accounts", default=100, show_default=True)
@click.option("--size", default=4096, show_default=True, help="octets; 0: as real mail has them")
def inbound_(messages: int, sessions: int, accounts: int, size: int, **more: Any) -> None:
    """Mail from strangers by SMTP, a message for one account each, counted when IMAP shows it."""
    inbound.run(Mail(messages, sessions, accounts, size), **more)


@main.command("submission")
@_contest
@click.option("--messages", default=3000, show_default=True)
def submission_(messages: int, **more: Any) -> None:
    """Mail of users, a connection with STARTTLS and AUTH for each message."""
    submission.run(messages, **more)


@main.command("relay")
@_contest
@click.option("--messages", default=10_000, show_default=True)
@click.option("--domains", default=50, show_default=True)
@click.option("--dkim/--no-dkim", default=True, show_default=True, help="one more row: signed")
def relay_(messages: int, domains: int, **more: Any) -> None:
    """Mail of a user to many domains, through the durable queue to a sink, until the queue is empty."""
    relay.run(messages, domains, **more)


@main.command("imap")
@_contest
@click.option("--messages", default=10_000, show_default=True)
def imap_(messages: int, **more: Any) -> None:
    """What IMAP clients wait for, on one large mailbox and many small ones. Needs root: it drops the page cache."""
    imap.run(messages, **more)


@main.command("fts")
@_contest
@click.option("--messages", default=10_000, show_default=True)
def fts_(messages: int, **more: Any) -> None:
    """SEARCH TEXT with an index on both sides. Needs dovecot-fts-xapian from Debian."""
    fts.run(messages, **more)


@main.command("fetch")
@_contest
@click.option("--messages", default=10_000, show_default=True)
def fetch_(messages: int, **more: Any) -> None:
    """FETCH of a whole mailbox by one client, caches warm."""
    reading.run_fetch(messages, **more)


@main.command("pop3")
@_contest
@click.option("--messages", default=10_000, show_default=True)
def pop3_(messages: int, **more: Any) -> None:
    """RETR of a whole maildrop by one client, one at a time and ten ahead."""
    reading.run_pop3(messages, **more)


@main.command("idle")
@_contest
@click.option("--sessions", default=1000, show_default=True)
def idle_(sessions: int, **more: Any) -> None:
    """The memory of sessions in IDLE, and the time from the start to the first banners."""
    idle.run(sessions, **more)


@main.command("growth")
@click.option("--accounts", default=growth.ACCOUNTS[-1], show_default=True, help="at most")
@click.option("--messages", default=growth.MESSAGES[-1], show_default=True, help="at most")
@click.option("--save", is_flag=True, help="put the tables into bench/RESULTS.md")
def growth_(accounts: int, messages: int, save: bool) -> None:
    """Whether an operation costs more with more accounts, or more messages in a mailbox."""
    growth.run_mailbox(messages, workers=_workers(), save=save)
    growth.run_accounts(accounts, workers=_workers(), save=save)


@main.command("slow-disk")
@click.option("--rounds", default=3, show_default=True)
@click.option("--save", is_flag=True, help="put the table into bench/RESULTS.md")
def slow_disk_(rounds: int, save: bool) -> None:
    """How much of the time of a delivery is the disk's: each sync takes 5 ms longer."""
    slow_disk.run(rounds, save=save)


@main.command("limits")
@click.option("--times", default=2000, show_default=True)
@click.option("--save", is_flag=True, help="put the table into bench/RESULTS.md")
def limits_(times: int, save: bool) -> None:
    """What syncs, copies, handshakes and the like cost by themselves."""
    limits.run(times, save=save)


@main.command("all")
@_contest
def all_(**more: Any) -> None:
    """Each of the others, one after the other: two hours with five rounds.

    What takes ten minutes for one round, and counts memory or compares what goes for seconds, has one: 1,000 sessions
    in IDLE, and a mailbox of 100,000.
    """
    once = {**more, "rounds": 1}
    limits.run(2000, save=more["save"])
    for mail in INBOUND:
        inbound.run(mail, **more)
    submission.run(3000, **more)
    relay.run(10_000, 50, dkim=True, **more)
    imap.run(10_000, **more)
    imap.run(100_000, **once)
    fts.run(10_000, **more)
    reading.run_pop3(10_000, **more)
    idle.run(1000, **once)
    slow_disk.run(more["rounds"], save=more["save"])
    growth.run_mailbox(growth.MESSAGES[-1], workers=more["workers"], save=more["save"])
    growth.run_accounts(growth.ACCOUNTS[-1], workers=more["workers"], save=more["save"])


if __name__ == "__main__":
    main()

"""pillarbox check, and what it repairs"""

import json
import os
import sys
from itertools import chain

import click
from rich.console import Console
from rich.progress import Progress

from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.cli.telling import tell_trace
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted
from pillarbox.store import made
from pillarbox.store.check import check_domains, check_single, check_store
from pillarbox.store.directory import canonical_address, ensure_not_lost
from pillarbox.store.mending import RECOVERED
from pillarbox.store.owned import find_denied, is_shut
from pillarbox.store.repair import Repaired, Unrepaired, repair
from pillarbox.trace.recorder import Recorder


@click.command(epilog="Example: pillarbox check")
@click.argument("addresses", metavar="[--repair [ACCOUNT]...]", nargs=-1)
@click.option("--repair", "repairs", is_flag=True, help="Make damaged mail files anew.")
@json_option
@config_option
def check(addresses: tuple[str, ...], repairs: bool, as_json: bool) -> None:
    """Read the whole store and say what is wrong. Changes nothing; the server may run.

    Beside a file with a write-ahead log SQLite may make one with the ending -shm; it holds no mail.

    With --repair, no server may run: what can be read of a damaged mail file goes into a new one,
    and the old one is kept in the folder aside of data_dir; ACCOUNT: of these only. Exit code 1 when
    something is wrong, or was lost.
    """
    config = read_config()
    if repairs:
        _repair(config, addresses, as_json=as_json)
        return
    if addresses:
        raise click.UsageError("accounts are named with --repair only")
    denied = list(find_denied(config.data_path))
    if denied and is_shut(config.data_path):
        raise Refused("\n".join(denied))  # what else is wrong shows when we may look
    made.ensure_not_all_missing(config.data_path)
    if not any((config.data_path / name).exists() for name in ("accounts", "queue.db")):
        ensure_not_lost(config.data_path / "directory.db")
        raise Refused(f"no server has run in {config.data_path} yet: there is nothing to check")
    problems: list[str] = []
    with Progress(
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("accounts", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        found = check_domains(config.data_path), check_store(config.data_path, show)
        for problem in chain(denied, *found):
            problems.append(problem)
            if not as_json:
                click.echo(problem)
    if as_json:
        click.echo(json.dumps({"problems": problems}, indent=2, ensure_ascii=False))
    if problems:
        raise Refused(f"{counted(len(problems), 'problem')} found")
    if not as_json:
        click.echo("The store is in order.")


def _repair(config: Config, addresses: tuple[str, ...], *, as_json: bool) -> None:
    os.umask(0o077)
    done: list[Repaired] = []
    failed: list[Unrepaired] = []
    recorder = Recorder(is_on=config.explain.enabled)
    names = [canonical_address(address) for address in addresses]
    others: list[str] = []
    for each in repair(config.data_path, names):
        if isinstance(each, Unrepaired):
            failed.append(each)
            if not as_json:
                _show_problems(each)
                click.echo(f"{each.address}: not repaired: {each.why}")
            continue
        done.append(each)
        each.tell(recorder)
        tell_trace(config, recorder)
        if not as_json:
            _show(each)
    for problem in check_single(config.data_path):
        others.append(problem)
        if not as_json:
            click.echo(f"{problem} (--repair makes only mail files anew)")
    if as_json:
        rows = [
            {
                "account": each.address,
                "problems": each.problems,
                "saved": each.salvaged.saved,
                "unflagged": each.salvaged.unflagged,
                "recovered": each.salvaged.recovered,
                "may_be_old": each.salvaged.may_be_old,
                "from_journal": each.salvaged.from_journal,
                "lost": each.salvaged.lost,
                "uncounted": each.salvaged.is_uncounted,
                "unshared": [{"mailbox": name, "with": others} for name, others in each.unshared],
                "gone": each.salvaged.gone,
                "aside": str(each.aside) if each.aside else None,
            }
            for each in done
        ]
        why = [
            {"account": each.address, "problems": each.problems, "why": each.why} for each in failed
        ]
        told = {"repaired": rows, "failed": why, "problems": others}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif not done and not failed and not others:
        click.echo("No mail file needs a repair.")
    if others:
        raise Refused(f"{counted(len(others), 'problem')} left")
    if failed:
        raise Refused(f"{counted(len(failed), 'mail file')} could not be repaired")
    if any(each.salvaged.lost or each.salvaged.is_uncounted for each in done):
        raise Refused(
            "some mail is lost, or may be; `pillarbox restore` puts back what a backup has"
        )


def _show_problems(account: Repaired | Unrepaired) -> None:
    for problem in account.problems:
        click.echo(problem)


def _show(repaired: Repaired) -> None:
    salvaged, address = repaired.salvaged, repaired.address
    _show_problems(repaired)
    click.echo(f"{address}: repaired; {counted(salvaged.saved, 'message')} in place.")
    if salvaged.unflagged:
        click.echo(
            f"{address}: {counted(salvaged.unflagged, 'message')} of these lost flags and time of arrival."
        )
    if salvaged.recovered:
        click.echo(
            f"{address}: {counted(salvaged.recovered, 'message')} without a place, now in the mailbox {RECOVERED}."
        )
    if salvaged.may_be_old:
        click.echo(f"{address}: some messages may be ones that had been deleted.")
    if salvaged.from_journal:
        click.echo(f"{address}: {counted(salvaged.from_journal, 'message')} came from the journal.")
    if salvaged.is_uncounted:
        click.echo(
            f"{address}: what its mailboxes had cannot be read: nobody knows how many messages are lost."
        )
    for name in salvaged.gone:
        click.echo(
            f"{address}: {name} is subscribed, and there is no such mailbox: it is lost, or was deleted."
        )
    for name, others in repaired.unshared:
        now = f"is {name} now" if name else "is lost"
        click.echo(
            f"{address}: a mailbox that was shared with {', '.join(others)} {now}; nobody else has rights there."
        )
    for mailbox, count in salvaged.lost.items():
        click.echo(f"{address}: {mailbox} had {counted(count, 'message')} more.")
    if not (salvaged.lost or salvaged.is_uncounted):
        click.echo(f"{address}: no message is lost.")
    if repaired.aside is not None:
        click.echo(f"{address}: the damaged file is kept as {repaired.aside}.")

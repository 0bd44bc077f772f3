"""pillarbox import"""

import asyncio
import json
import os
from pathlib import Path

import click

from pillarbox.app.importing import Import, Imported, find_mailboxes, own_name
from pillarbox.app.old_message import OldMailbox, shown
from pillarbox.cli.common import directory_of, one_line, show_octets
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted
from pillarbox.store.mailboxes import Name
from pillarbox.store.restore import locked
from pillarbox.store.store import Store


@click.command(
    "import",
    short_help="Put mail from a Maildir or an mbox into an account.",
    epilog="Example: pillarbox import alice@example.org /srv/old/alice/Maildir",
)
@click.argument("account")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--mailbox",
    default="INBOX",
    metavar="NAME",
    show_default=True,
    help="Where the mail goes, like Archive/2019, in plain text; sub-folders go below it. Those of INBOX go beside it.",
)
@json_option
@config_option
def import_(account: str, path: Path, mailbox: str, as_json: bool) -> None:
    """Put the mail of a Maildir, with its sub-folders, or of an mbox file into ACCOUNT, with flags and dates. No server
    may run meanwhile.

    Mailboxes that are missing are made. Run again, it adds what is missing: a message that is in the same mailbox with
    the same octets and date of arrival is not put in twice. Exit code 1 when something was left out; it is named.
    """
    config = read_config()
    os.umask(0o077)
    base = own_name(tuple(mailbox.split("/")))
    with directory_of(config) as directory:
        known = directory.known_account(account)
    done = Imported()
    try:
        found = find_mailboxes(path)
        with locked(config.data_path):
            pass  # a server that runs is told by its own words
        asyncio.run(_import(config, known.id, found, base, done))
    except OSError as error:
        raise Refused(_why_unreadable(config, path, error)) from error
    finally:  # a full disk and Ctrl-C do not undo what is done
        _show(done, known.address, as_json=as_json)
    if done.is_full:
        raise Refused(
            f"{known.address} is full, the rest was not tried; see pillarbox account quota, then run this again"
        )
    if done.left:
        raise Refused(f"{len(done.left)} left out; they are named above")


def _why_unreadable(config: Config, path: Path, error: OSError) -> str:
    text = f"{shown(error.filename or path)}: {error.strerror}"
    if isinstance(error, PermissionError) and config.user:
        text += f"; the user {config.user} must be able to read it: make a copy, and chown -R {config.user}: it"
    return text


async def _import(
    config: Config, account: int, found: list[OldMailbox], base: Name, done: Imported
) -> None:
    store = Store(config.data_path)
    try:
        with show_octets("importing") as show:
            total, octets = sum(each.octets for each in found), 0

            def progress(more: int) -> None:
                nonlocal octets
                octets = min(octets + more, total)  # line ends may make them more
                show(octets, total)

            work = Import(store, account, base, config.smtp.max_message_size, done, progress)
            for old in found:
                if not done.is_full:
                    await work.add(old)
    finally:
        await store.close()


def _show(done: Imported, address: str, *, as_json: bool) -> None:
    if as_json:
        told = {
            "imported": done.added,
            "present": done.present,
            "hidden": done.hidden,
            "left": [{"which": which, "why": why} for which, why in done.left],
        }
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for name, count in done.added.items():
        if not count:
            continue
        click.echo(f"{one_line(name)}: {counted(count, 'message')} imported.")
    if done.present:
        click.echo(f"{counted(done.present, 'message')} already in {address}.")
    if done.hidden:
        hidden = counted(done.hidden, "message")
        click.echo(f"{hidden} not taken that the old program did not show either.")
    if done == Imported(dict.fromkeys(done.added, 0)) and done.added:
        click.echo("There are no messages.")
    for which, why in done.left:
        click.echo(f"Left out: {one_line(which)}: {why}", err=True)

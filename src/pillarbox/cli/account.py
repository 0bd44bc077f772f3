"""pillarbox account ..."""

import datetime
import time

import click

from pillarbox.auth.passwords import hash_password
from pillarbox.auth.source import verifier_shown
from pillarbox.cli import quota as quota_options
from pillarbox.cli.alias import all_notes
from pillarbox.cli.common import (
    ask_new_password,
    directory_of,
    ensure_terminal,
    open_directory,
    password_option,
    show_table,
)
from pillarbox.cli.login import app_password, logins, salt_of, support
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.errors import Refused
from pillarbox.store.accounts import account_path
from pillarbox.store.damage import how_to_mend
from pillarbox.store.database import Missing
from pillarbox.store.directory import Account, Directory
from pillarbox.store.logins import Logins
from pillarbox.store.quota import read_usage
from pillarbox.store.store import remove_account_files


@click.group(epilog="Example: pillarbox account add alice@example.org")
@config_option
def account() -> None:
    """The people who get mail here."""


account.add_command(app_password)
account.add_command(support)
account.add_command(logins)


@account.command(
    short_help="Make an account.", epilog="Example: pillarbox account add alice@example.org"
)
@click.argument("address")
@password_option
@config_option
def add(address: str, password_stdin: bool) -> None:
    """Make an account with the mailboxes INBOX, Sent, Drafts, Trash, Junk and Archive.

    Where [directory] lets others verify passwords, it has none here, and none is asked for.
    """
    config = read_config()
    others = verifier_shown(config.directory)
    with directory_of(config) as directory:
        directory.ensure_new_account(address)  # before a password is asked for
        if not others:
            hashes = hash_password(ask_new_password(password_stdin))
            added = directory.add_account(address, *hashes)
            click.echo(f"The account {added.address} was added.")
            _tell_of_shared_name(directory, added)
            return
        if password_stdin:
            raise Refused(f"{others} verifies passwords: leave --password-stdin out")
        added = directory.add_account(address, "", "")
        click.echo(
            f"The account {added.address} was added, without a password: {others} verifies those."
        )


def _tell_of_shared_name(directory: Directory, added: Account) -> None:
    """Who logged in by it until now cannot any more."""
    name = added.address.partition("@")[0]
    if len(directory.accounts_for_login(name)) > 1:
        click.echo(
            f"Note: several accounts are called {name} now, so each of them logs in by its whole address only.",
            err=True,
        )


@account.command("list", epilog="Example: pillarbox account list example.org --json")
@click.argument("domain", required=False)
@json_option
@config_option
def list_(domain: str | None, as_json: bool) -> None:
    """List the accounts, or those of DOMAIN."""
    with open_directory() as directory:
        canonical = None if domain is None else directory.known_domain(domain)
        rows = [
            (each.address, each.enabled, _day(each.created))
            for each in directory.accounts(canonical)
        ]
    show_table(("address", "enabled", "created"), rows, as_json=as_json)


def _day(epoch_s: int) -> str:
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%d")


@account.command(epilog="Example: pillarbox account passwd alice@example.org")
@click.argument("address")
@password_option
@config_option
def passwd(address: str, password_stdin: bool) -> None:
    """Set a new password. The old one is void at once; sessions that are logged in go on.

    Where [directory] lets others verify passwords, it is set there.
    """
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
        if others := verifier_shown(config.directory):
            raise Refused(
                f"{others} verifies passwords: set that of {known.address} there (one for a single"
                f" program can be made here: pillarbox account app-password add {known.address} NAME)"
            )
        password = ask_new_password(password_stdin)
        salt = salt_of(directory, known.id)  # that of the app passwords
        directory.credentials.set_password(known.id, *hash_password(password, salt=salt))
        click.echo(f"{known.address} has a new password.")


@account.command(epilog="Example: pillarbox account disable alice@example.org")
@click.argument("address")
@config_option
def disable(address: str) -> None:
    """Let nobody log in. Mail still comes in; a running server ends the sessions within a second."""
    _set_enabled(address, enabled=False)


@account.command(epilog="Example: pillarbox account enable alice@example.org")
@click.argument("address")
@config_option
def enable(address: str) -> None:
    """Allow logins again."""
    _set_enabled(address, enabled=True)


def _set_enabled(address: str, *, enabled: bool) -> None:
    with open_directory() as directory:
        known = directory.known_account(address)
        directory.set_enabled(known.id, enabled=enabled)
        click.echo(f"{known.address} is {'enabled' if enabled else 'disabled'}.")


def _limit(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> int | str | None:
    """A number, "default", or None when the option is not there."""
    if value is None or value == "default":
        return value
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise click.BadParameter('must be a number (0: no limit), or "default"')
    return int(value)


@account.command(
    short_help="How many recipients an account may write to.",
    epilog="Example: pillarbox account limits alice@example.org --daily 20000",
)
@click.argument("address")
@click.option("--hourly", metavar="N", callback=_limit, help='A number, 0 for none, or "default".')
@click.option("--daily", metavar="N", callback=_limit, help="Likewise.")
@json_option
@config_option
def limits(address: str, hourly: int | str | None, daily: int | str | None, as_json: bool) -> None:
    """Show or set to how many recipients at other hosts an account may send.

    What is over the limit is held in the queue (see `pillarbox queue list`), and the account and
    postmaster are told.
    """
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
        old = directory.sending_limits(known.id)
        new = [
            before if wanted is None else (wanted if isinstance(wanted, int) else None)
            for before, wanted in zip(old, (hourly, daily), strict=True)
        ]
        if hourly is not None or daily is not None:
            directory.set_sending_limits(known.id, new[0], new[1])
    defaults = (config.submission.recipients_per_hour, config.submission.recipients_per_day)
    rows = [
        (span, default if own is None else own, "default" if own is None else "of the account")
        for span, own, default in zip(("hour", "day"), new, defaults, strict=True)
    ]
    show_table(("in_a", "recipients", "set_by"), rows, as_json=as_json)


@account.command(epilog="Example: pillarbox account quota alice@example.org --storage 2G")
@click.argument("address")
@click.option(
    "--storage",
    metavar="SIZE",
    callback=quota_options.storage,
    help='Like 500M or 2G, 0 for no limit, or "default".',
)
@click.option(
    "--messages",
    metavar="N",
    callback=quota_options.messages,
    help='A number, 0 for no limit, or "default".',
)
@json_option
@config_option
def quota(
    address: str, storage: quota_options.Limit, messages: quota_options.Limit, as_json: bool
) -> None:
    """Show or set how much mail an account may keep.

    When it is full, new mail for it is refused (552 5.2.2); the account is told at 80 and at 95 per
    cent. "default" is what `pillarbox domain quota` says.
    """
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
        own = (
            quota_options.changed(known.quota_octets, storage),
            quota_options.changed(known.quota_messages, messages),
        )
        if storage is not None or messages is not None:
            directory.quotas.set(known.id, *own)
        defaults = directory.quotas.of_domain(known.address.rpartition("@")[2])
    try:
        used = read_usage(account_path(config.data_path / "accounts", known.id))
    except Missing as error:
        text = f"the mail file of {known.address} is missing: {how_to_mend(known.address)}"
        raise Refused(text) from error
    limits = [
        (resource, limit, "account")
        if limit is not None
        else (resource, default, "domain" if default else "default")
        for resource, limit, default in zip(("storage", "messages"), own, defaults, strict=True)
    ]
    quota_options.show(limits, used, as_json=as_json)


@account.command(epilog="Example: pillarbox account remove alice@example.org --yes")
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(address: str, yes: bool) -> None:
    """Remove an account and delete all its mail, for good.

    A running server ends the account's sessions within a second. Aliases that point to it stay, and
    those that lead nowhere without it are named.
    """
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
        if not yes:
            ensure_terminal("for your consent", "--yes")
            question = f"Delete {known.address} and all its mail for good?"
            if not click.confirm(question, err=True):
                raise Refused("nothing was removed")
        before = set(all_notes(directory))
        directory.remove_account(known.id)
        remove_account_files(config.data_path, known.id)
        if (path := config.data_path / "logins.db").exists():
            history = Logins(path, clock=time.time)
            history.forget(known.id)
            history.close()
        click.echo(f"The account {known.address} and its mail were removed.")
        for _, note in (found for found in all_notes(directory) if found not in before):
            click.echo(f"Note: {note}", err=True)

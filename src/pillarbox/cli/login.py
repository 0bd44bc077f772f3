"""pillarbox account app-password, support and logins: how people get into accounts."""

import datetime
import time

import click

from pillarbox.auth.passwords import make_verifier, parse_verifier, random_password
from pillarbox.auth.peer import PROTOCOLS
from pillarbox.cli.common import directory_of, open_directory, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.config.schema import Config
from pillarbox.core.duration import parse_span
from pillarbox.store.directory import Directory
from pillarbox.store.logins import OK, History, Logins


def salt_of(directory: Directory, account: int) -> bytes:
    """That of all SCRAM verifiers of an account; b"" if it has none yet."""
    texts = [each.scram for each in directory.credentials.app_passwords(account)]
    texts.append(directory.credentials.password(account)[1])
    for text in texts:
        verifier = parse_verifier(text)
        if verifier is not None:
            return verifier.salt
    return b""


def history_of(config: Config, account: int) -> list[History]:
    """The newest first; none where no server ran yet."""
    path = config.data_path / "logins.db"
    if not path.exists():
        return []
    logins = Logins(path, clock=time.time)
    try:
        return logins.history(account)
    finally:
        logins.close()


@click.group(
    "app-password",
    short_help="Passwords for single programs.",
    epilog="Example: pillarbox account app-password add alice@example.org phone",
)
@config_option
def app_password() -> None:
    """Passwords for single programs of an account, made by the server.

    They work with every login mechanism. One that is lost with a telephone is revoked, and the others
    go on.
    """


@app_password.command(
    epilog="Example: pillarbox account app-password add alice@example.org scanner --only smtp --for 90d"
)
@click.argument("address")
@click.argument("name")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PROTOCOLS),
    help="Where it counts (may be given more than once); without it, everywhere.",
)
@click.option(
    "--for", "duration", metavar="TIME", help="Like 12h or 90d; without it, until revoked."
)
@config_option
def add(address: str, name: str, only: tuple[str, ...], duration: str | None) -> None:
    """Make the app password NAME and print it: it is shown only now."""
    expires = None
    if duration is not None:
        try:
            expires = int(time.time()) + parse_span(duration)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--for") from error
    with open_directory() as directory:
        known = directory.known_account(address)
        password = random_password()
        scram = make_verifier(password, salt_of(directory, known.id))
        directory.credentials.add_app_password(known.id, name, scram, only or PROTOCOLS, expires)
    click.echo(password.reveal())


@app_password.command(
    "list", epilog="Example: pillarbox account app-password list alice@example.org --json"
)
@click.argument("address")
@json_option
@config_option
def list_(address: str, as_json: bool) -> None:
    """List the app passwords of an account, without the passwords."""
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
        app_passwords = directory.credentials.app_passwords(known.id)
    used: dict[str, int] = {}
    for login in history_of(config, known.id):
        if login.result == OK:
            used[login.with_what] = max(login.last, used.get(login.with_what, 0))
    columns = ("name", "counts_for", "expires", "last_used", "created")
    rows = []
    for each in app_passwords:
        expires, has_expired = _shown(each.expires), each.has_expired(time.time())
        row: list[str | bool | None] = [
            each.name,
            " ".join(sorted(each.scopes)),
            expires if as_json or not has_expired else f"{expires} (expired)",
            _shown(used.get(each.name)),
            _shown(each.created),
        ]
        if as_json:
            row.append(has_expired)
        rows.append(row)
    show_table([*columns, "expired"] if as_json else columns, rows, as_json=as_json)


@app_password.command(
    epilog="Example: pillarbox account app-password revoke alice@example.org phone"
)
@click.argument("address")
@click.argument("name")
@config_option
def revoke(address: str, name: str) -> None:
    """Make the app password NAME void at once. Sessions that are logged in go on, but send no more."""
    with open_directory() as directory:
        known = directory.known_account(address)
        directory.credentials.revoke_app_password(known.id, name)
    click.echo(f"The app password {name} of {known.address} is void.")


@click.group("support", epilog="Example: pillarbox account support add helper@example.org")
@config_option
def support() -> None:
    """Accounts that may log in as others, to help them.

    The user name is then alice@example.org*helper@example.org, with the helper's own password. Each such
    login stands in the log and in the history of the account.
    """


@support.command("add", epilog="Example: pillarbox account support add helper@example.org")
@click.argument("address")
@config_option
def add_supporter(address: str) -> None:
    """Let ADDRESS log in as any other account."""
    with open_directory() as directory:
        known = directory.known_account(address)
        directory.credentials.set_supporter(known.id, allowed=True)
    click.echo(f"{known.address} may log in as others.")


@support.command("remove", epilog="Example: pillarbox account support remove helper@example.org")
@click.argument("address")
@config_option
def remove_supporter(address: str) -> None:
    """No longer let ADDRESS do so. A running server ends such sessions within a second."""
    with open_directory() as directory:
        known = directory.known_account(address)
        directory.credentials.set_supporter(known.id, allowed=False)
    click.echo(f"{known.address} may log in only as itself.")


@support.command("list", epilog="Example: pillarbox account support list")
@json_option
@config_option
def list_supporters(as_json: bool) -> None:
    """List who may log in as others."""
    with open_directory() as directory:
        rows = [(address,) for address in directory.credentials.supporters()]
    show_table(("address",), rows, as_json=as_json)


@click.command(
    "logins",
    short_help="Show from where an account was logged in to.",
    epilog="Example: pillarbox account logins alice@example.org",
)
@click.argument("address")
@json_option
@config_option
def logins(address: str, as_json: bool) -> None:
    """Show from where and how an account was logged in to, or tried to, the latest first.

    "refused" is what was not even looked at, after too many failures: see `pillarbox throttle`. "with" is
    the app password, or the supporter, whose login it was. Attempts of one kind share a line; the
    last 50 kinds that worked and the last 50 that did not are kept.
    """
    config = read_config()
    with directory_of(config) as directory:
        known = directory.known_account(address)
    rows = [
        (
            _shown(each.last),
            each.client,
            each.protocol,
            each.mechanism,
            each.result,
            each.with_what,
            each.attempts,
            _shown(each.first),
        )
        for each in history_of(config, known.id)
    ]
    columns = ("last", "client", "protocol", "mechanism", "result", "with", "times", "first")
    show_table(columns, rows, as_json=as_json)


def _shown(epoch_s: int | None) -> str | None:
    if epoch_s is None:
        return None
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

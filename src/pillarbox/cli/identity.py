"""pillarbox identity ..."""

import click

from pillarbox.cli.common import open_directory, show_table
from pillarbox.cli.options import config_option, json_option


@click.group(epilog="Example: pillarbox identity add alice@example.org sales@example.com")
@config_option
def identity() -> None:
    """Addresses that an account may send as, besides its own.

    Its own address with any tag, and aliases that lead to it, need none. The identity @example.org
    is for all addresses of a domain.
    """


@identity.command(epilog="Example: pillarbox identity add alice@example.org @example.com")
@click.argument("account")
@click.argument("sender")
@config_option
def add(account: str, sender: str) -> None:
    """Let ACCOUNT send as SENDER, too."""
    with open_directory() as directory:
        account, sender = directory.add_identity(account, sender)
        click.echo(f"{account} may send as {sender}.")


@identity.command("list", epilog="Example: pillarbox identity list alice@example.org --json")
@click.argument("account", required=False)
@json_option
@config_option
def list_(account: str | None, as_json: bool) -> None:
    """List the identities of all accounts, or of ACCOUNT."""
    with open_directory() as directory:
        number = None if account is None else directory.known_account(account).id
        rows = directory.identities(number)
    show_table(("account", "sender"), rows, as_json=as_json)


@identity.command(epilog="Example: pillarbox identity remove alice@example.org @example.com")
@click.argument("account")
@click.argument("sender")
@config_option
def remove(account: str, sender: str) -> None:
    """No longer let ACCOUNT send as SENDER."""
    with open_directory() as directory:
        account, sender = directory.remove_identity(account, sender)
        click.echo(f"{account} may no longer send as {sender}.")

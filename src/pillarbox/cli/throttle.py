"""pillarbox throttle ..."""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from pillarbox.app.status import ask
from pillarbox.auth.refusals import (
    Network,
    Refusal,
    find_refusals,
    forgive_account,
    forgive_network,
)
from pillarbox.auth.throttle import MOST_OF_STRANGER
from pillarbox.cli.common import directory_of, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.networks import parse_networks
from pillarbox.store.directory import canonical_address
from pillarbox.store.run import LoginFailures


@click.group(epilog="Example: pillarbox throttle list")
@config_option
def throttle() -> None:
    """Whose logins are refused after many failures.

    Right passwords are refused, too, then. It ends by itself, or by `throttle forgive`.
    """


@throttle.command(
    "list",
    short_help="List whose logins are refused now.",
    epilog="Example: pillarbox throttle list --json",
)
@json_option
@config_option
def list_(as_json: bool) -> None:
    """List the accounts and networks whose logins the running server refuses now.

    Each ends by itself at the time in "until", if no other failure comes. "?" is a name that no account has.
    """
    config = read_config()
    with _failures_of(config) as failures:
        rows = [
            (
                each.account or None,
                each.network or None,
                each.failures,
                round(each.until) if as_json else _moment(each.until),
                _words(each),
            )
            for each in _refusals(config, failures)
        ]
    show_table(("account", "network", "failures", "until", "refused"), rows, as_json=as_json)


def _moment(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _words(refusal: Refusal) -> str:
    if not refusal.account:
        return "all but accounts that were logged in to from there in the last 30 days"
    if not refusal.network:
        return f"networks that are new to the account, after {MOST_OF_STRANGER} failures each"
    return "every attempt"


@throttle.command(
    short_help="Let an account or a network try again.",
    epilog="Example: pillarbox throttle forgive alice@example.org",
)
@click.argument("who", metavar="ACCOUNT|NETWORK")
@config_option
def forgive(who: str) -> None:
    """Forget the failed logins of an account, from anywhere, or of a network or an IP address, with any account.

    That counts at once. Many failures more, and it is refused again: if a program tries an old password, or
    somebody guesses, see to that first.
    """
    config = read_config()
    network = _network(who)
    with _failures_of(config) as failures:
        if network is not None:
            if not forgive_network(failures, network):
                raise Refused(f"no failed logins from {network} are counted")
            click.echo(f"The failed logins from {network} are forgiven.")
            return
        address = _address(config, who)
        networks = forgive_account(failures, address)
        if not networks:
            raise Refused(f"no failed logins of {address} are counted")
        click.echo(f"The failed logins of {address} are forgiven.")
        for each in _refusals(config, failures):
            if not each.account and each.network in networks:
                click.echo(
                    f"Note: {each.network} had {each.failures} failures with any account, and is"
                    f" refused as such; see: pillarbox throttle forgive {each.network}"
                )


def _network(text: str) -> Network | None:
    """ "192.0.2.7" -> 192.0.2.7/32; None: it is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(config: Config, name: str) -> str:
    """Under which failures of an account, or of a name that has none, are counted. Raises Refused, BadParameter."""
    with directory_of(config) as directory:
        account = directory.account_for_login(name)
    if account is not None:
        return account.address
    if "@" not in name:
        wrong = (
            f'"{name}" is no address of an account, no IP address, and no network like 192.0.2.0/24'
        )
        raise click.BadParameter(wrong, param_hint="ACCOUNT|NETWORK")
    return canonical_address(name)


@contextmanager
def _failures_of(config: Config) -> Iterator[LoginFailures]:
    """Of the running server: each start forgets them. Raises Refused where none runs, Unavailable."""
    ask(config.data_path)
    failures = LoginFailures(config.data_path / "run.db", clock=time.time)
    try:
        yield failures
    finally:
        failures.close()


def _refusals(config: Config, failures: LoginFailures) -> list[Refusal]:
    exempt = parse_networks(config.security.never_throttled)
    with directory_of(config) as directory:
        addresses = [each.address for each in directory.accounts()]
    return find_refusals(failures, addresses, time.time(), exempt)

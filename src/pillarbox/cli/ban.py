"""pillarbox ban ..."""

import datetime
import ipaddress
import time

import click

from pillarbox.cli.common import open_directory, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.duration import parse_span
from pillarbox.core.errors import Refused
from pillarbox.core.networks import without_mapping


@click.group(epilog="Example: pillarbox ban add 192.0.2.0/24 --for 2d --reason 'guesses passwords'")
@config_option
def ban() -> None:
    """Networks whose connections are turned away, on all ports.

    Those of security.never_throttled are never banned.
    """


def canonical_network(text: str) -> str:
    """ "192.0.2.7" -> "192.0.2.7/32"; "::ffff:192.0.2.7" is the same. Raises Refused, BadParameter."""
    try:
        network = without_mapping(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        wrong = f'"{text}" is not an IP address or network like 192.0.2.0/24'
        raise click.BadParameter(wrong, param_hint="NETWORK") from error
    if network.prefixlen == 0:
        raise Refused("that is all of the Internet")
    return str(network)


@ban.command(epilog="Example: pillarbox ban add 2001:db8::/32 --for 12h")
@click.argument("network")
@click.option(
    "--for", "duration", metavar="TIME", help="Like 90m, 12h or 30d; without it, for good."
)
@click.option("--reason", default="", help="For your own memory.")
@config_option
def add(network: str, duration: str | None, reason: str) -> None:
    """Turn NETWORK (or an address) away. A running server ends its connections within a second."""
    canonical = canonical_network(network)
    if not reason.isprintable():
        raise Refused("the reason must be one line of printable characters")
    until = None
    if duration is not None:
        try:
            until = int(time.time()) + parse_span(duration)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--for") from error
    with open_directory() as directory:
        old = next((each for each in directory.bans.all() if each.network == canonical), None)
        directory.bans.add(canonical, until, reason)
    click.echo(f"{canonical} is banned {_end(until)}.")
    for note in _notes(canonical):
        click.echo(f"Note: {note}")
    if old is not None:
        click.echo(f"That replaces a ban {_end(old.until)}{old.reason and f' ({old.reason})'}.")


def _notes(canonical: str) -> list[str]:
    """Where a ban does nothing, or more than was meant."""
    network = ipaddress.ip_network(canonical)
    notes = []
    for each in read_config().security.never_throttled:
        spared = ipaddress.ip_network(each, strict=False)
        if spared.version != network.version or not spared.overlaps(network):
            continue
        is_all = spared.prefixlen <= network.prefixlen
        what = "this ban has no effect" if is_all else f"it has no effect on {spared}"
        notes.append(f"{what}: security.never_throttled has {each}")
    if not notes and network.is_loopback:
        notes.append("that is this machine: its own programs (webmail, filters) are turned away")
    return notes


@ban.command("list", epilog="Example: pillarbox ban list --json")
@json_option
@config_option
def list_(as_json: bool) -> None:
    """List the bans."""
    with open_directory() as directory:
        rows = [
            (
                each.network,
                _shown(each.until) if as_json or each.until else "for good",
                _shown(each.created),
                each.reason,
            )
            for each in directory.bans.all()
        ]
    show_table(("network", "until", "since", "reason"), rows, as_json=as_json)


@ban.command(epilog="Example: pillarbox ban remove 192.0.2.0/24")
@click.argument("network")
@config_option
def remove(network: str) -> None:
    """Let NETWORK in again."""
    canonical = canonical_network(network)
    with open_directory() as directory:
        directory.bans.remove(canonical)
    click.echo(f"{canonical} is no longer banned.")


def _end(until: int | None) -> str:
    return "for good" if until is None else f"until {_shown(until)}"


def _shown(epoch_s: int | None) -> str | None:
    if epoch_s is None:
        return None
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

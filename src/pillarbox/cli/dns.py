"""pillarbox dns ..."""

import time
from collections.abc import Iterable

import click

from pillarbox.cli.common import directory_of, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.cli.zone import Record, domain_records
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain


@click.group(epilog="Example: pillarbox dns show example.org")
@config_option
def dns() -> None:
    """What belongs into the DNS."""


@dns.command(epilog="Example: pillarbox dns show example.org >> example.org.zone")
@click.argument("name", metavar="DOMAIN")
@json_option
@config_option
def show(name: str, as_json: bool) -> None:
    """Print the records that DOMAIN needs, as a zone file to paste.

    MX, SPF, DKIM, DMARC, and SRV records for the services that are configured.
    """
    config = read_config()
    with directory_of(config) as directory:
        name = directory.known_domain(name)
        keys = directory.dkim_keys.of(name)
    records = list(domain_records(config, name, keys, int(time.time())))
    if as_json:
        rows = [(record.name, record.type, record.value, record.note) for record in records]
        show_table(("name", "type", "value", "note"), rows, as_json=True)
        return
    show_records(config, name, records, has_keys=bool(keys))


def show_records(config: Config, name: str, records: Iterable[Record], *, has_keys: bool) -> None:
    """As a zone file of the domain `name`."""
    host = canonical_domain(config.hostname)
    click.echo(
        f"; {host} itself needs A and AAAA records, and its addresses PTR records naming it."
    )
    if not has_keys:
        click.echo(f"; No DKIM keys: make them with: pillarbox domain rotate-keys {name}")
    for record in records:
        click.echo(record)

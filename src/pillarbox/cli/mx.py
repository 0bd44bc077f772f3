"""pillarbox mx DOMAIN"""

import asyncio
import random

import click

from pillarbox.app.outbound import make_resolver, own_host
from pillarbox.cli.common import config_option, json_option, read_config, show_table
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.dns.mx import NoRoute, Route, find_route


@click.command(epilog="Example: pillarbox mx example.com")
@click.argument("domain")
@json_option
@config_option
def mx(domain: str, as_json: bool) -> None:
    """Show the route that mail for DOMAIN would take, host by host, and which hosts are passed over."""
    config = read_config()
    if config.outbound.smarthost:
        click.echo(f"All mail goes to the smarthost {config.outbound.smarthost}.", err=True)
    route = asyncio.run(_ask(config, domain))
    rows: list[tuple[object, ...]] = []
    if isinstance(route, Route):
        rows = [
            (number, host.preference, host.name, ", ".join(host.addresses), "")
            for number, host in enumerate(route.hosts, 1)
        ]
    rows += [("-", unused.preference, unused.name, "", unused.why) for unused in route.unused]
    if rows or as_json:
        show_table(("try", "preference", "host", "addresses", "note"), rows, as_json=as_json)
    if isinstance(route, NoRoute):
        raise Refused(f"{route.code} {route.enhanced} {route.text}")


async def _ask(config: Config, domain: str) -> Route | NoRoute:
    return await make_resolver(config).run(find_route(domain, own_host(config), random.random))

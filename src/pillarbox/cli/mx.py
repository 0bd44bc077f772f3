"""pillarbox mx DOMAIN"""

import asyncio
import random

import click

from pillarbox.app.outbound import make_resolver, make_router, own_host
from pillarbox.cli.common import directory_of, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.errors import Refused
from pillarbox.dns.mx import NoRoute, Route, find_route
from pillarbox.outbound.route import SMARTHOST, Rule
from pillarbox.outbound.route import Route as Hosts
from pillarbox.smtp.client_events import Outcome, TlsMode

COLUMNS = ("try", "preference", "host", "addresses", "note")


def _domain(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    behind = value.rpartition("@")[2]
    try:
        canonical_domain(behind)
    except ValueError:
        raise click.BadParameter(f'"{value}" is no domain name') from None
    if behind != value:
        raise click.BadParameter(f'"{value}" is an address: give its domain, {behind}')
    return value


@click.command(
    short_help="Show the route of mail for a domain.", epilog="Example: pillarbox mx example.com"
)
@click.argument("domain", callback=_domain)
@json_option
@config_option
def mx(domain: str, as_json: bool) -> None:
    """Show the route that mail for DOMAIN would take, host by host, and which hosts are passed over."""
    config = read_config()
    if _is_local(config, domain):
        click.echo(f"{domain} is a domain of this server: its mail is delivered here.", err=True)
        if as_json:
            show_table(COLUMNS, [], as_json=True)
        return
    router = make_router(config)
    key, rule = router.rule(canonical_domain(domain))
    if rule is not None:
        click.echo(_said_by(key, rule), err=True)
    if rule is not None and rule.name:
        _show_hosts(asyncio.run(router.find(key)), as_json=as_json)
    else:
        _show_route(asyncio.run(_ask(config, domain)), as_json=as_json)


def _is_local(config: Config, domain: str) -> bool:
    if not (config.data_path / "directory.db").exists():
        return False
    with directory_of(config) as directory:
        return directory.is_local(canonical_domain(domain))


_TLS = {
    TlsMode.NEVER: "never",
    TlsMode.IF_OFFERED: "where it is offered",
    TlsMode.ALWAYS: "always, verified",
}


def _said_by(key: str, rule: Rule) -> str:
    """What the configuration says, in one line."""
    who = "All other mail" if key == SMARTHOST else f"Mail for {key}"
    way = f"to {rule.name}:{rule.port}" if rule.name else "as the DNS says"
    protocol = "LMTP" if rule.lmtp else "SMTP"
    return f"{who} goes {way} by {protocol}, as configured. TLS: {_TLS[rule.tls]}."


def _show_hosts(route: Hosts | Outcome, *, as_json: bool) -> None:
    if isinstance(route, Outcome):
        raise _no_way(route.reply.code, route.reply.enhanced, route.reply.text)
    rows = [
        (number, None, host.name, host.address, f"port {host.port}")
        for number, host in enumerate(route.hosts, 1)
    ]
    show_table(COLUMNS, rows, as_json=as_json)


def _show_route(route: Route | NoRoute, *, as_json: bool) -> None:
    rows: list[tuple[object, ...]] = []
    if isinstance(route, Route):
        rows = [
            (number, host.preference, host.name, ", ".join(host.addresses), "")
            for number, host in enumerate(route.hosts, 1)
        ]
    rows += [("-", unused.preference, unused.name, "", unused.why) for unused in route.unused]
    if rows or as_json:
        show_table(COLUMNS, rows, as_json=as_json)
    if isinstance(route, NoRoute):
        raise _no_way(route.code, route.enhanced, route.text)


def _no_way(code: int, enhanced: str, text: str) -> Refused:
    """What is wrong, and what it means for mail."""
    then = "goes back to its sender" if code >= 500 else "waits, and is tried again"
    return Refused(f"{text}: mail for it {then} ({code} {enhanced})")


async def _ask(config: Config, domain: str) -> Route | NoRoute:
    return await make_resolver(config).run(find_route(domain, own_host(config), random.random))

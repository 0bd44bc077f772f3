"""pillarbox doctor [DOMAIN]"""

import asyncio
import datetime
import math
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

import click
from cryptography import x509

from pillarbox.app.data_folder import ensure_ours
from pillarbox.certs.present import configured_paths
from pillarbox.certs.private_ca import private_paths
from pillarbox.certs.renewal import acme_paths
from pillarbox.certs.report import Entry, report
from pillarbox.cli.common import ask_password, directory_of, one_line, password_option
from pillarbox.cli.doctor.aliases import check_aliases
from pillarbox.cli.doctor.block_lists import check_block_lists
from pillarbox.cli.doctor.case import WAIT_S, Case
from pillarbox.cli.doctor.display import show_findings, show_json
from pillarbox.cli.doctor.dns_domain import check_dkim, check_dmarc, check_mx, check_srv
from pillarbox.cli.doctor.dns_host import check_addresses, check_pointers, check_tlsa
from pillarbox.cli.doctor.dns_spf import check_spf
from pillarbox.cli.doctor.finding import Finding, Level, error
from pillarbox.cli.doctor.listeners import check_certificates, check_listeners
from pillarbox.cli.doctor.logins import check_directory, check_tokens
from pillarbox.cli.doctor.lookup import make_lookup
from pillarbox.cli.doctor.machine import (
    check_accounts,
    check_clock,
    check_disk,
    check_drop,
    check_queue,
    check_server,
)
from pillarbox.cli.doctor.memory import Memory
from pillarbox.cli.doctor.modes import check_modes
from pillarbox.cli.doctor.outbound import check_outbound
from pillarbox.cli.doctor.round_trip import check_round_trip
from pillarbox.cli.doctor.watch import Watch
from pillarbox.cli.options import act_as_server, config_option, json_option, read_config
from pillarbox.config.regular_file import read_regular
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.outbound.route import SMARTHOST
from pillarbox.store.dkim_keys import DkimKey

Check = Coroutine[Any, Any, list[Finding]]

ALL_S = 20 * WAIT_S
"""For one check, whatever it waits for."""

EVERY_S, LEAST_EVERY_S, MOST_EVERY_S = 60.0, 1.0, 86400.0
"""From one round trip of --watch to the next."""

_DOMAIN_CHECKS = (check_mx, check_spf, check_dkim, check_dmarc, check_srv)
_HOST_CHECKS = (
    check_server,
    check_disk,
    check_clock,
    check_queue,
    check_drop,
    check_accounts,
    check_aliases,
    check_modes,
    check_directory,
    check_tokens,
    check_addresses,
    check_pointers,
    check_certificates,
    check_listeners,
    check_tlsa,
)

_Files = tuple[list[Entry], list[list[x509.Certificate]]]
"""Of certificates: what `tls status` says, and what stands in those that can be used."""


@dataclass(slots=True, frozen=True)
class _Wishes:
    """Checks that others notice, so they are done only when told to."""

    block_lists: bool
    outbound: str | None
    round_trip: str | None
    """The account."""
    password: Secret | None


def _number(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("it is no number")
    return value


@click.command(
    short_help="Look at DNS, TLS, ports, disk and queue, and say what to do.",
    epilog="Example: pillarbox doctor example.org --outbound example.com --block-lists",
)
@click.argument("domain", required=False)
@click.option("--block-lists", is_flag=True, help="Ask doctor.block_lists about our addresses.")
@click.option(
    "--outbound",
    metavar="[DOMAIN]",
    is_flag=False,
    flag_value=SMARTHOST,
    help="Connect to the MX of DOMAIN, to see whether port 25 is open; without DOMAIN, to the smarthost.",
)
@click.option(
    "--round-trip",
    metavar="ACCOUNT",
    help="Send a message from ACCOUNT to itself, read it by IMAP and POP3, and remove it.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Nothing but the round trip, again and again, until Ctrl-C; the metrics tell of it.",
)
@click.option(
    "--every",
    type=click.FloatRange(LEAST_EVERY_S, MOST_EVERY_S),
    callback=_number,
    metavar="SECONDS",
    help=f"From one round trip of --watch to the next; {EVERY_S:g} if not told.",
)
@password_option
@json_option
@config_option
def doctor(
    domain: str | None,
    block_lists: bool,
    outbound: str | None,
    round_trip: str | None,
    watch: bool,
    every: float | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Look at everything that mail depends on: the DNS records of DOMAIN, or of all domains that live here, the host's
    addresses and their names, certificates, listeners, who verifies logins, clock, disk and queue.

    Each finding says what to do. Exit code 1 when there is an error; warnings are none. With --watch it
    is that of the last round trip.
    """
    if password_stdin and not round_trip:
        raise click.UsageError("--password-stdin goes with --round-trip")
    if watch and (domain or block_lists or outbound or not round_trip):
        raise click.UsageError("--watch goes with --round-trip, and no other checks")
    if every is not None and not watch:
        raise click.UsageError("--every goes with --watch")
    password = ask_password(password_stdin) if round_trip else None
    config = read_config(as_server=False)  # only root may be able to read keys
    ensure_ours(config)
    files = _read_certificates(config)
    act_as_server(config)
    folder = config.data_path
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no such folder; begin with: pillarbox quickstart")
    if round_trip:
        round_trip = _known_account(config, round_trip)
    if watch:
        assert round_trip is not None
        assert password is not None
        case = Case(config, {}, make_lookup(config), *files)
        watching = Watch(
            case,
            round_trip,
            password,
            every or EVERY_S,
            as_json,
            lambda: _read_certificates(config)[1],
        )
        sys.exit(0 if asyncio.run(watching.run()) else 1)
    domains = _domains(config, domain)
    memory = Memory(folder)

    wishes = _Wishes(block_lists, outbound, round_trip, password)
    findings = asyncio.run(_look(config, domains, files, wishes))
    if not domains:
        advice = (
            "add one: pillarbox domain add example.org;"
            f" if there was one, mount the disk of {config.data_path} or mend data_dir"
        )
        findings.append(error("domain", config.hostname, "no domain lives here", advice))
    before = [memory.before(each) for each in findings]
    show = show_json if as_json else show_findings
    show(findings, before, memory.last)
    try:
        memory.save(findings, int(time.time()))
    except OSError as failure:
        click.echo(f"pillarbox: this run cannot be remembered: {failure.strerror}", err=True)
    if any(each.level is Level.ERROR for each in findings):
        sys.exit(1)


async def _look(
    config: Config, domains: dict[str, list[DkimKey]], files: _Files, wishes: _Wishes
) -> list[Finding]:
    """What all checks find, which run side by side, in their order."""
    case = Case(config, domains, make_lookup(config), *files)
    checks: list[Check] = [check(case) for check in _HOST_CHECKS]
    checks += [check(case, each) for each in domains for check in _DOMAIN_CHECKS]
    if wishes.block_lists:
        checks.append(check_block_lists(case))
    if wishes.outbound:
        checks.append(check_outbound(case, wishes.outbound))
    if wishes.round_trip and wishes.password is not None:
        checks.append(check_round_trip(case, wishes.round_trip, wishes.password))
    found = await asyncio.gather(*map(_bounded, checks))
    return [finding for findings in found for finding in findings]


async def _bounded(check: Check) -> list[Finding]:
    """Others go on when one check takes too long."""
    name = getattr(check, "__name__", "").removeprefix("check_").replace("_", " ")
    try:
        async with asyncio.timeout(ALL_S):
            return [_clean(each) for each in await check]
    except TimeoutError:
        return [error(name, "this check", f"not over within {ALL_S:g} s", "run it again")]
    except Exception as failure:  # a fault of ours: the others still have much to say
        found = f"the check itself failed: {type(failure).__name__}: {failure}"
        return [_clean(error(name, "this check", found, "tell us: this is a fault of Pillarbox"))]


def _clean(finding: Finding) -> Finding:
    """Records and greetings are what strangers wrote."""
    found, advice = one_line(finding.found), one_line(finding.advice)
    return replace(finding, subject=one_line(finding.subject), found=found, advice=advice)


def _domains(config: Config, name: str | None) -> dict[str, list[DkimKey]]:
    """The domain that is named, else all, with their keys. Raises Refused."""
    if not (config.data_path / "directory.db").exists():
        if name is not None:
            raise Refused(f"{name} is not a domain of this server: there is none yet")
        return {}
    with directory_of(config) as directory:
        names = [directory.known_domain(name)] if name is not None else directory.domains()
        return {each: directory.dkim_keys.of(each) for each in names}


def _known_account(config: Config, address: str) -> str:
    """Its canonical address. Raises Refused."""
    if (config.data_path / "directory.db").exists():
        with directory_of(config) as directory:
            try:
                return directory.known_account(address).address
            except Refused as refused:
                raise Refused(f"{refused.text}; see: pillarbox account list") from refused
    raise Refused(f"there is no account {address}: there is none yet; see: pillarbox quickstart")


def _read_certificates(config: Config) -> _Files:
    paths = configured_paths(config)
    if not paths or (config.tls.acme and paths[0] != acme_paths(config)):
        private = private_paths(config.data_path / "tls")
        paths = [private, *paths] if private[0].exists() else paths
    entries = report(config, paths, datetime.datetime.now(datetime.UTC))
    chains = [
        x509.load_pem_x509_certificates(read_regular(entry.paths[0]))
        for entry in entries
        if entry.pair is not None
    ]
    return entries, chains

"""pillarbox tls ..."""

import datetime
import json
import os
import sys
from typing import Any

import click

from pillarbox.app.data_folder import ensure_ours
from pillarbox.certs.pair import read_pair
from pillarbox.certs.present import configured_paths
from pillarbox.certs.private_ca import private_paths
from pillarbox.certs.renewal import acme_paths, is_due, renewal_time
from pillarbox.certs.report import Entry, listeners_with_tls, report
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted


@click.group(epilog="Example: pillarbox tls status")
@config_option
def tls() -> None:
    """Certificates."""


@tls.command(
    short_help="Show each certificate, and what is wrong.",
    epilog="Example: pillarbox tls status --json",
)
@json_option
@config_option
def status(as_json: bool) -> None:
    """Show each certificate: its names, who signed it, when it expires, its files, and what is wrong with it.

    Exit code 1 when something is.
    """
    config = read_config(as_server=False)  # only root may be able to read keys; nothing is written
    ensure_ours(config)
    all_paths = configured_paths(config)
    if not all_paths or (config.tls.acme and all_paths[0] != acme_paths(config)):
        all_paths.insert(0, private_paths(config.data_path / "tls"))
        if not all_paths[0][0].exists():
            raise Refused("there is no certificate yet: the first start of the server makes one")
    entries = report(config, all_paths, datetime.datetime.now(datetime.UTC))
    shown_at = listeners_with_tls(config)
    if as_json:
        click.echo(json.dumps([_row(each, shown_at) for each in entries], indent=2))
    else:
        click.echo("\n\n".join(_text(each, shown_at) for each in entries))
    if any(each.problems for each in entries):
        sys.exit(1)


@tls.command(
    short_help="Get the certificate by ACME, if it is due.",
    epilog="Example: pillarbox tls renew --force",
)
@click.option("--force", is_flag=True, help="Even if it is not due.")
@config_option
def renew(force: bool) -> None:
    """Get a new certificate by ACME, if it is due.

    The server does so by itself; one that runs takes up yours within seconds. What failed before does not make it wait.
    """
    config = read_config()
    if not config.tls.acme:
        raise Refused("tls.acme is not on; set [tls] acme = true")
    now = datetime.datetime.now(datetime.UTC)
    if force or is_due(config, now):
        os.umask(0o077)
        from pillarbox.certs.order import obtain

        obtain(config)
    pair = read_pair(acme_paths(config))
    click.echo(
        f"The certificate for {', '.join(pair.names)} expires on {pair.end:%Y-%m-%d}"
        f" and is renewed on {renewal_time(pair):%Y-%m-%d}."
    )


def _row(entry: Entry, shown_at: list[str]) -> dict[str, Any]:
    pair = entry.pair
    return {
        "certificate": str(entry.paths[0]),
        "key": str(entry.paths[1]),
        "names": [*pair.names, *pair.addresses] if pair else [],
        "issuer": pair.issuer if pair else None,
        "expires": pair.end.isoformat() if pair else None,
        "days_left": entry.days,
        "first": entry.is_first,
        "listeners": shown_at if pair else [],
        "problems": list(entry.problems),
        "notes": list(entry.notes),
    }


def _until(days: int) -> str:
    """Whole days, below 0 from the end on."""
    if days >= 0:
        return f"in {counted(days, 'day')}"
    return f"{counted(-days - 1, 'day')} ago" if days < -1 else "less than a day ago"


def _text(entry: Entry, shown_at: list[str]) -> str:
    pair = entry.pair
    lines = [str(entry.paths[0])]
    if pair is not None:
        whom = (
            "who ask for another name or none, too" if entry.is_first else "who ask for its names"
        )
        lines += [
            f"  names:   {', '.join((*pair.names, *pair.addresses)) or 'none'}",
            f"  issuer:  {pair.issuer}{' (itself)' if pair.is_self_signed else ''}",
            f"  expires: {pair.end:%Y-%m-%d %H:%M} UTC, {_until(entry.days or 0)}",
        ]
    lines.append(f"  key:     {entry.paths[1]}")
    if pair is not None:
        lines.append(f"  shown:   {', '.join(shown_at) or 'nowhere'}; to clients {whom}")
    lines += (f"  PROBLEM: {each}" for each in entry.problems)
    lines += (f"  note:    {each}" for each in entry.notes)
    return "\n".join(lines)

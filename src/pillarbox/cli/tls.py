"""pillarbox tls ..."""

import datetime
import json
import sys
from typing import Any

import click

from pillarbox.certs.present import configured_paths
from pillarbox.certs.private_ca import private_paths
from pillarbox.certs.report import Entry, listeners, report
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.errors import Refused


@click.group(epilog="Example: pillarbox tls status")
@config_option
def tls() -> None:
    """Certificates."""


@tls.command(epilog="Example: pillarbox tls status --json")
@json_option
@config_option
def status(as_json: bool) -> None:
    """Show each certificate: its names, who signed it, when it expires, its files, and what is wrong with it.

    Exit code 1 when something is.
    """
    config = read_config()
    all_paths = configured_paths(config)
    if not all_paths:
        all_paths = [private_paths(config.data_path / "tls")]
        if not all_paths[0][0].exists():
            raise Refused("there is no certificate yet: the first start of the server makes one")
    entries = report(config, all_paths, datetime.datetime.now(datetime.UTC))
    shown_at = listeners(config)
    if as_json:
        click.echo(json.dumps([_row(each, shown_at) for each in entries], indent=2))
    else:
        click.echo("\n\n".join(_text(each, shown_at) for each in entries))
    if any(each.problems for each in entries):
        sys.exit(1)


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
    }


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
            f"  expires: {pair.end:%Y-%m-%d %H:%M} UTC, in {entry.days} days",
        ]
    lines.append(f"  key:     {entry.paths[1]}")
    if pair is not None:
        lines.append(f"  shown:   {', '.join(shown_at) or 'nowhere'}; to clients {whom}")
    return "\n".join([*lines, *(f"  PROBLEM: {each}" for each in entry.problems)])

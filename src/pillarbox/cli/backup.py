"""pillarbox backup"""

import json
import os
from pathlib import Path

import click

from pillarbox.cli.common import show_octets
from pillarbox.cli.options import config_option, config_path, json_option, read_config
from pillarbox.config.files import files_named_by
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted
from pillarbox.store.backup import Wanted, back_up
from pillarbox.store.damage import how_to_mend
from pillarbox.store.directory import canonical_address
from pillarbox.store.manifest import Manifest

MOST_LINES = 10
"""Of one kind of problem."""


@click.command(
    short_help="Save the whole server, or one account.",
    epilog="Example: pillarbox backup /var/backups/pillarbox/monday",
)
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--account", "addresses", multiple=True, help="Only this one; may be given again.")
@json_option
@config_option
def backup(target: Path, addresses: tuple[str, ...], as_json: bool) -> None:
    """Save the whole server into DIR, which must be new or empty, while it runs or not.

    All mail that was acknowledged before is in it: accounts, queue, directory, keys and logins; also
    the configuration and the files that it names. It has secrets: keep it as safe as the server.
    Exit code 1 when something could not be saved, or when an account's file is damaged.
    """
    config = read_config()
    os.umask(0o077)
    configuration = [config_path().absolute()]
    wanted = Wanted(
        config.data_path,
        configuration + files_named_by(config),
        [canonical_address(address) for address in addresses],
    )
    with show_octets("saving") as progress:
        manifest = back_up(wanted, target, progress)
    if as_json:
        click.echo(json.dumps(_summary(target, manifest), indent=2, ensure_ascii=False))
    else:
        _show(target, manifest)
    lines = [
        f"{address}: the mail file is damaged, and was saved as it is; see `pillarbox check --repair`"
        if saved.file
        else f"{address}: the mail file is missing, so nothing of it was saved: {how_to_mend(address)}"
        for address, saved in manifest.accounts.items()
        if saved.damage
    ]
    problems = _first_few(lines, "damaged mail file")
    problems += _first_few([f"not saved: {line}" for line in manifest.left_out], "file")
    if problems:
        raise Refused("\n".join(problems))


def _first_few(lines: list[str], what: str) -> list[str]:
    """Of many, as many as one looks at, and how many there are."""
    left = len(lines) - MOST_LINES
    if left <= 0:
        return lines
    return [*lines[:MOST_LINES], f"... and {counted(left, f'more {what}')}; --json names all"]


def _summary(target: Path, manifest: Manifest) -> dict[str, object]:
    return {
        "backup": str(target.absolute()),
        "whole": manifest.is_whole,
        "accounts": len(manifest.accounts),
        "files": len(manifest.files),
        "octets": sum(file.size for file in manifest.files.values()),
        "began": manifest.began,
        "ended": manifest.ended,
        "damaged": {
            address: saved.damage for address, saved in manifest.accounts.items() if saved.damage
        },
        "left_out": manifest.left_out,
    }


def _show(target: Path, manifest: Manifest) -> None:
    octets = sum(file.size for file in manifest.files.values())
    what = "The server" if manifest.is_whole else "Saved"
    accounts = counted(len(manifest.accounts), "account")
    if missing := sum(1 for saved in manifest.accounts.values() if saved.damage and not saved.file):
        accounts = f"{len(manifest.accounts) - missing} of {accounts}"
    click.echo(
        f"{what}{' was saved' if manifest.is_whole else ''}: {accounts}, {counted(len(manifest.files), 'file')},"
        f" {octets / 1_000_000:,.1f} MB, in {target}."
    )

"""pillarbox restore"""

import json
import os
from pathlib import Path

import click

from pillarbox.cli.common import show_octets
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.cli.telling import tell_trace
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.core.words import counted
from pillarbox.store.damage import how_to_repair
from pillarbox.store.directory import canonical_address
from pillarbox.store.manifest import Manifest, read_manifest
from pillarbox.store.restore import (
    Left,
    Replacement,
    restore_accounts,
    restore_file,
    restore_server,
)
from pillarbox.trace.recorder import Recorder


@click.command(
    short_help="Put a backup back, whole or one account.",
    epilog="Example: pillarbox restore /var/backups/pillarbox/monday alice@example.org",
)
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("addresses", metavar="[ACCOUNT]...", nargs=-1)
@json_option
@config_option
def restore(source: Path, addresses: tuple[str, ...], as_json: bool) -> None:
    """Put the backup in DIR back: the whole server into an empty data_dir, or the mail of the
    accounts that are named. A mail file in place of DIR, like one from the folder aside, becomes that
    of the one account that is named. No server may run meanwhile.

    Programs that read by IMAP fetch the mail anew; those that use POP3 know what they have. A file
    that is replaced is kept in the folder aside of data_dir.
    """
    config = read_config()
    os.umask(0o077)
    if source.is_file():
        _restore_file(config, source, addresses, as_json=as_json)
        return
    manifest = read_manifest(source)
    if addresses:
        _restore_accounts(config, source, manifest, addresses, as_json=as_json)
    else:
        _restore_server(config, source, manifest, as_json=as_json)


def _restore_accounts(
    config: Config, source: Path, manifest: Manifest, addresses: tuple[str, ...], *, as_json: bool
) -> None:
    names = list(dict.fromkeys(canonical_address(address) for address in addresses))
    done: list[Replacement] = []
    left: list[Left] = []
    recorder = Recorder(is_on=config.explain.enabled)
    with show_octets("verifying") as progress:
        for each in restore_accounts(source, manifest, config.data_path, names, progress):
            if isinstance(each, Left):
                left.append(each)
                continue
            done.append(each)
            each.tell(recorder)
            tell_trace(config, recorder)
            if not as_json:
                _show(each)
    if as_json:
        rows = [_row(each) for each in done]
        told = {"restored": rows, "left": {each.address: each.why for each in left}}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if left:
        raise Refused("\n".join(f"{each.address} was not restored: {each.why}" for each in left))


def _restore_file(
    config: Config, source: Path, addresses: tuple[str, ...], *, as_json: bool
) -> None:
    if len(addresses) != 1:
        raise click.UsageError("a mail file becomes that of one account: name one, and no more")
    done = restore_file(source, config.data_path, canonical_address(addresses[0]))
    recorder = Recorder(is_on=config.explain.enabled)
    done.tell(recorder)
    tell_trace(config, recorder)
    if as_json:
        told = {"restored": [_row(done)], "left": {}, "problems": done.problems}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(done)
    if done.problems:
        raise Refused(
            "\n".join([*done.problems, f"{source} has that, too: {how_to_repair(done.address)}"])
        )


def _show(done: Replacement) -> None:
    click.echo(f"The mail of {done.address} was restored.")
    if done.recovered:
        click.echo(f"The journal had {counted(done.recovered, 'message')} more.")
    if done.aside is not None:
        click.echo(f"What it had until now is in {done.aside}.")


def _row(done: Replacement) -> dict[str, object]:
    return {
        "account": done.address,
        "aside": str(done.aside) if done.aside else None,
        "from_journal": done.recovered,
    }


def _fate(manifest: Manifest, address: str) -> str:
    is_there = manifest.accounts[address].file
    return "is damaged in the backup, too" if is_there else "was missing when the backup was made"


def _restore_server(config: Config, source: Path, manifest: Manifest, *, as_json: bool) -> None:
    with show_octets("verifying") as progress:
        damaged = restore_server(source, manifest, config.data_path, progress)
    missing = {
        name: origin for name, origin in manifest.configuration.items() if not Path(origin).exists()
    }
    if as_json:
        summary = {"accounts": len(manifest.accounts), "damaged": damaged, "not_here": missing}
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        click.echo(
            f"Restored into {config.data_path}: {counted(len(manifest.accounts), 'account')}."
        )
        for name, origin in missing.items():
            click.echo(f"Not here: {origin}; the backup has it as {name}.")
    if damaged:
        raise Refused(
            "\n".join(
                f"{address}: the file {_fate(manifest, address)}; see `pillarbox check --repair {address}`"
                for address in damaged
            )
        )

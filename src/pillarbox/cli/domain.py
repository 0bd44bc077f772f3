"""pillarbox domain ..."""

import asyncio
import sys
import time
from collections.abc import Sequence

import click

from pillarbox.cli import quota as quota_options
from pillarbox.cli.common import directory_of, one_line, open_directory, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.cli.zone import dkim_record
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.outbound.signing import add_keys
from pillarbox.store.directory import Directory, canonical_address
from pillarbox.store.dkim_keys import DkimKey, KeyState


@click.group(epilog="Example: pillarbox domain add example.org")
@config_option
def domain() -> None:
    """The domains whose mail is kept here."""


@domain.command(epilog="Example: pillarbox domain add example.org --postmaster alice@example.org")
@click.argument("name", metavar="DOMAIN")
@click.option("--postmaster", metavar="ADDRESS", help="Who gets mail for postmaster@DOMAIN.")
@config_option
def add(name: str, postmaster: str | None) -> None:
    """Take in mail for DOMAIN.

    Every domain must accept mail for its postmaster (RFC 5321 §4.5.1). Without --postmaster, ADDRESS
    is asked for on a terminal; if there is none, the domain's first account gets that mail.
    """
    with open_directory() as directory:
        if postmaster is None and sys.stdin.isatty():
            postmaster = click.prompt(
                f"Who gets mail for postmaster@{name}? (empty: the first account)",
                default="",
                show_default=False,
                value_proc=_empty_or_address,
                err=True,
            )
        elif postmaster:
            canonical_address(postmaster)  # before anything is changed
        name = directory.add_domain(name)
        add_keys(directory, name, int(time.time()))
        click.echo(f"The domain {name} was added.")
        if "." not in name or "_" in name:
            click.echo(
                f"Note: other hosts can find no domain {name}; it must look like example.org",
                err=True,
            )
        if postmaster:
            _, target = directory.add_alias(f"postmaster@{name}", postmaster)
            click.echo(f"Mail for postmaster@{name} goes to {target}.")
            if directory.account(target) is None:
                click.echo(f"There is no account {target} yet: pillarbox account add {target}")
        else:
            click.echo(f"Mail for postmaster@{name} will go to the first account of {name};")
            click.echo(f"to change that: pillarbox alias add postmaster@{name} ADDRESS")
        click.echo(f"What to enter into the DNS for it: pillarbox dns show {name}")


def _empty_or_address(typed: str) -> str:
    """What was typed; asked again where that is no address."""
    try:
        return canonical_address(typed) if typed else ""
    except Refused as refused:
        raise click.UsageError(refused.text) from refused


@domain.command("list", epilog="Example: pillarbox domain list --json")
@json_option
@config_option
def list_(as_json: bool) -> None:
    """List the domains."""
    with open_directory() as directory:
        rows = [(name, len(directory.accounts(name))) for name in directory.domains()]
    show_table(("domain", "accounts"), rows, as_json=as_json)


@domain.command(epilog="Example: pillarbox domain remove example.org")
@click.argument("name", metavar="DOMAIN")
@config_option
def remove(name: str) -> None:
    """Take in no more mail for DOMAIN. Its accounts must be gone; its aliases and keys go with it."""
    with open_directory() as directory:
        directory.remove_domain(name)
        click.echo(f"The domain {name} was removed.")


@domain.command(epilog="Example: pillarbox domain quota example.org --storage 2G")
@click.argument("name", metavar="DOMAIN")
@click.option(
    "--storage",
    metavar="SIZE",
    callback=quota_options.storage,
    help="Like 500M or 2G, 0 for no limit.",
)
@click.option(
    "--messages", metavar="N", callback=quota_options.messages, help="A number, 0 for no limit."
)
@json_option
@config_option
def quota(
    name: str, storage: quota_options.Limit, messages: quota_options.Limit, as_json: bool
) -> None:
    """Show or set how much mail each account of DOMAIN may keep.

    It counts for accounts without limits of their own (`pillarbox account quota`).
    """
    with open_directory() as directory:
        name = directory.known_domain(name)
        old = directory.quotas.of_domain(name)
        new = (
            quota_options.changed(old[0], storage) or 0,
            quota_options.changed(old[1], messages) or 0,
        )
        if new != old:
            directory.quotas.set_domain(name, *new)
    limits = zip(("storage", "messages"), new, strict=True)
    rows = [(resource, limit, "domain" if limit else "default") for resource, limit in limits]
    quota_options.show(rows, None, as_json=as_json)


@domain.command(
    short_help="Replace the keys that sign mail, in two steps.",
    epilog="Example: pillarbox domain rotate-keys example.org",
)
@click.argument("name", metavar="DOMAIN")
@click.option(
    "--activate", is_flag=True, help="Sign with the new keys: their records are published."
)
@click.option("--force", is_flag=True, help="Even if the DNS has not their records.")
@config_option
def rotate_keys(name: str, activate: bool, force: bool) -> None:
    """Replace the keys that sign mail from DOMAIN (DKIM), in two steps.

    First make new ones and print their DNS records. When these are published, sign with them:
    --activate, which asks the DNS for them. A domain that has no keys signs with its first ones at
    once.
    """
    if force and not activate:
        raise click.UsageError("--force goes with --activate")
    config = read_config()
    with directory_of(config) as directory:
        name = directory.known_domain(name)
        if activate:
            if not force:
                _ensure_published(config, _new_keys(directory, name))
            directory.dkim_keys.activate(name)
            click.echo(f"Mail from {name} is signed with the new keys now.")
            click.echo("Keep the records of the old ones for a week: mail is still under way.")
            return
        keys = _new_keys(directory, name) or add_keys(directory, name, int(time.time()))
    for key in keys:
        click.echo(dkim_record(key))
    if keys[0].state is KeyState.ACTIVE:
        click.echo(f"; Publish these records: mail from {name} is signed from now on.")
        return
    click.echo("; Publish these records, and keep those of the old keys. An hour later:")
    click.echo(f"; pillarbox domain rotate-keys {name} --activate")


def _new_keys(directory: Directory, name: str) -> list[DkimKey]:
    return [key for key in directory.dkim_keys.of(name) if key.state is KeyState.NEW]


def _ensure_published(config: Config, keys: Sequence[DkimKey]) -> None:
    """Others find the records of keys in the DNS; where it does not answer, that is told. Raises Refused."""
    from pillarbox.cli.doctor.lookup import (
        DNS_SILENT,
    )  # its library takes time that other commands need not

    faults = asyncio.run(_find_faults(config, keys))
    for name, found in faults.items():
        if found == DNS_SILENT:
            click.echo(f"Note: {name}: {found}: nobody knows whether it is published", err=True)
    wrong = [f"{name}: {one_line(found)}" for name, found in faults.items() if found != DNS_SILENT]
    if wrong:
        wrong.append("others could verify no signature: set the records, or use --force")
        raise Refused("\n".join(wrong))


async def _find_faults(config: Config, keys: Sequence[DkimKey]) -> dict[str, str]:
    from pillarbox.cli.doctor.dns_domain import find_fault
    from pillarbox.cli.doctor.lookup import make_lookup

    lookup = make_lookup(config)
    faults = await asyncio.gather(*(find_fault(lookup, key) for key in keys))
    return {
        dkim_record(key).name.removesuffix("."): fault[0]
        for key, fault in zip(keys, faults, strict=True)
        if fault is not None
    }

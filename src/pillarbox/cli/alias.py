"""pillarbox alias ..."""

from collections.abc import Iterator

import click

from pillarbox.cli.common import open_directory, show_table
from pillarbox.cli.options import config_option, json_option
from pillarbox.delivery.aliases import expand
from pillarbox.store.directory import Directory


@click.group(epilog="Example: pillarbox alias add info@example.org alice@example.org")
@config_option
def alias() -> None:
    """Addresses whose mail goes to others.

    An alias may have several targets, and a target may be an alias. The alias @example.org gets all
    mail of the domain that nothing else takes (catch-all).
    """


@alias.command(epilog="Example: pillarbox alias add info@example.org alice@example.org")
@click.argument("name", metavar="ALIAS")
@click.argument("target")
@config_option
def add(name: str, target: str) -> None:
    """Let mail for ALIAS go to TARGET, too."""
    with open_directory() as directory:
        name, target = directory.add_alias(name, target)
        click.echo(f"Mail for {name} goes to {target}.")
        for note in notes_on(directory, name):
            click.echo(f"Note: {note}", err=True)


@alias.command("list", epilog="Example: pillarbox alias list --json")
@json_option
@config_option
def list_(as_json: bool) -> None:
    """List the aliases, a line for each target."""
    with open_directory() as directory:
        rows = directory.aliases()
    show_table(("alias", "target"), rows, as_json=as_json)


@alias.command(epilog="Example: pillarbox alias remove info@example.org")
@click.argument("name", metavar="ALIAS")
@click.argument("target", required=False)
@config_option
def remove(name: str, target: str | None) -> None:
    """Remove one TARGET of an alias, or all of it."""
    with open_directory() as directory:
        directory.remove_alias(name, target)
        click.echo(
            f"The alias {name} was removed."
            if target is None
            else f"{name} no longer goes to {target}."
        )


def all_notes(directory: Directory) -> Iterator[tuple[str, str]]:
    """What is wrong with where aliases lead, each with the alias. Raises Unavailable."""
    for name in dict(directory.aliases()):
        for note in notes_on(directory, name):
            yield name, note


def notes_on(directory: Directory, name: str) -> Iterator[str]:
    """What is wrong with where an alias leads. Raises Unavailable."""
    if name.startswith("@"):
        for target in directory.alias_targets(name):
            yield from _notes(directory, name, target)
    else:
        yield from _notes(directory, name, name)


def _notes(directory: Directory, name: str, address: str) -> Iterator[str]:
    found = expand(directory, address)
    for unknown in found.unknown:
        yield f"{name} goes to {unknown}, which is no account and no alias"
    if found.endless:
        yield f"{name} leads to too many addresses, or through too many aliases: its mail is put off (451)"
    elif not (found.targets or found.elsewhere or found.unknown):
        yield f"{name} goes round in a circle: its mail is put off (451)"

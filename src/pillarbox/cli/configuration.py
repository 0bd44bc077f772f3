"""pillarbox config ..."""

import datetime
from collections.abc import Iterator

import click

from pillarbox.certs.present import Certificates
from pillarbox.cli.common import directory_of
from pillarbox.cli.options import config_option, read_config
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config
from pillarbox.store.directory import Directory


@click.group(epilog="Example: pillarbox config check")
@config_option
def config() -> None:
    """The configuration file."""


@config.command(
    short_help="Print a commented configuration.",
    epilog="Example: pillarbox config example > pillarbox.toml",
)
def example() -> None:
    """Print a configuration with all settings, their defaults and what they mean."""
    click.echo(EXAMPLE, nl=False)


@config.command(epilog="Example: pillarbox config check --config pillarbox.toml")
@config_option
def check() -> None:
    """Check the configuration, and whether the aliases lead anywhere. Exit code 1 when it cannot be used."""
    configuration = read_config()
    if configuration.tls.certificate:
        Certificates(configuration, lambda: datetime.datetime.now(datetime.UTC))
    for note in _notes_on_settings(configuration):
        click.echo(f"Note: {note}")
    if (configuration.data_path / "directory.db").exists():
        with directory_of(configuration) as directory:
            for note in _notes_on_aliases(directory):
                click.echo(f"Note: {note}")
    click.echo("The configuration can be used.")


def _notes_on_settings(configuration: Config) -> Iterator[str]:
    """What is allowed but may not be meant."""
    listen = configuration.listen
    if not any(getattr(listen, service) for service in listen.__struct_fields__):
        yield "[listen] names no address: the server would do nothing"
    if configuration.security.allow_cleartext_login:
        yield "allow_cleartext_login is on: passwords may pass unencrypted"
    if not configuration.tls.certificate:
        yield f"clients must trust {configuration.data_path / 'tls' / 'ca.pem'}: no [tls] certificate is set"
    if configuration.workers > 1:
        yield "this version runs one process, whatever workers says"


def _notes_on_aliases(directory: Directory) -> Iterator[str]:
    for alias, target in directory.aliases():
        domain = target.rpartition("@")[2]
        if directory.is_local(domain) and not (
            directory.account(target)
            or directory.alias_targets(target)
            or directory.alias_targets(f"@{domain}")
        ):
            yield f"{alias} goes to {target}, which is no account and no alias"

"""pillarbox config ..."""

import datetime
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pillarbox.app.data_folder import ensure_sound, why_barred
from pillarbox.auth.source import ensure_usable
from pillarbox.certs.present import Certificates, configured_paths, problems_of
from pillarbox.certs.report import missing_name
from pillarbox.cli.alias import all_notes
from pillarbox.cli.common import directory_of
from pillarbox.cli.doctor.modes import loose_keys
from pillarbox.cli.options import act_as_server, config_option, json_option, read_config
from pillarbox.config.load import WrongConfiguration
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config
from pillarbox.config.shape import Fault
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.store import drop
from pillarbox.store.database import user_name


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
@json_option
@config_option
def check(as_json: bool) -> None:
    """Check the configuration, and whether the aliases lead anywhere. All faults are told at once, with the lines on
    which they are. A class of your own for passwords is imported, an LDAP filter is parsed; nobody is asked. Exit code
    1 when it cannot be used."""
    try:
        configuration = read_config(as_server=False, needs_files=True)
    except WrongConfiguration as wrong:
        if as_json:
            _print_json([], wrong.faults)
        raise
    with _told_as_json(as_json):
        ensure_sound(configuration)
    barred = why_barred(configuration)
    hidden = _hidden(configuration)
    now = datetime.datetime.now(datetime.UTC)
    looks = not barred and not hidden and configured_paths(configuration)
    found = Certificates(configuration, lambda: now) if looks else None
    keys = loose_keys(configuration)
    act_as_server(configuration)
    with _told_as_json(as_json):
        ensure_usable(configuration.directory)
    notes = list(_notes_on_settings(configuration))
    notes += (
        f"{path}: only a server that root starts can read it: run this as root to check the certificates, too"
        for path in hidden
    )
    notes += (f"all users of this machine can read {key}: chmod o-rwx {key}" for key in keys)
    notes += [barred] if barred else _notes_on_folders(configuration)
    notes += _notes_on_addresses(configuration)
    for pair in found.pairs if found else ():
        notes += (f"{pair.paths[0]}: {problem}" for problem in problems_of(pair, now))
    if found and (missing := missing_name(configuration.hostname, found.pairs)):
        notes.append(f"{found.pairs[0].paths[0]}: {missing}")
    if not barred and _is_there(configuration.data_path / "directory.db"):
        with directory_of(configuration) as directory:
            notes += (note for _, note in all_notes(directory))
    if as_json:
        _print_json(notes, [])
        return
    for note in notes:
        click.echo(f"Note: {note}")
    click.echo("The configuration can be used.")


@contextmanager
def _told_as_json(as_json: bool) -> Iterator[None]:
    """What cannot be used although no setting has a fault."""
    try:
        yield
    except Refused as refused:
        if as_json:
            place, _, text = refused.text.partition(": ")
            _print_json([], [(None, Fault(place, text))])
        raise


def _hidden(configuration: Config) -> list[Path]:
    """Files of TLS that only root reads, which then is who starts the server; not for root."""
    if os.geteuid() == 0 or not configuration.user:
        return []
    named = dict.fromkeys(path for pair in configuration.tls.named_pairs for path in pair)
    return [path for path in named if not os.access(path, os.R_OK, effective_ids=True)]


def _is_there(path: Path) -> bool:
    """As far as this user can see; what he cannot see is noted."""
    try:
        return path.exists()
    except OSError:
        return False


def _print_json(notes: list[str], faults: list[tuple[int | None, Fault]]) -> None:
    problems = [
        {"line": line, "setting": fault.place, "problem": fault.text} for line, fault in faults
    ]
    shown = {"problems": problems, "notes": notes}
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


def _notes_on_settings(configuration: Config) -> Iterator[str]:
    """What is allowed but may not be meant."""
    if "." not in configuration.hostname:
        yield f'hostname: "{configuration.hostname}" has no domain: other hosts cannot find it'
    listen = configuration.listen
    if not any(getattr(listen, service) for service in listen.__struct_fields__):
        yield "[listen] names no address: the server would do nothing"
    if os.geteuid() == 0:  # as the server's user, if there is one
        yield 'user is not set: a server that root starts stays root; name one, like user = "pillarbox"'
    if configuration.security.allow_cleartext_login:
        yield "allow_cleartext_login is on: passwords may pass unencrypted"
    if not configuration.tls.acme and not configured_paths(configuration):
        yield f"clients must trust {configuration.data_path / 'tls' / 'ca.pem'}: no [tls] certificate is set"
    if configuration.oauth.issuer and not configuration.oauth.jwks:
        yield "[oauth] names an issuer and no jwks: signed tokens are not taken"


def _notes_on_folders(configuration: Config) -> Iterator[str]:
    """What a server could not use here."""
    yield from _notes_on_folder("data_dir", configuration.data_path)
    if configuration.sendmail.drop_dir:
        yield from _notes_on_folder("sendmail.drop_dir", configuration.drop_path)


def _notes_on_addresses(configuration: Config) -> Iterator[str]:
    """Where a server could not listen here."""
    hosts: dict[str, list[str]] = {}
    for service in configuration.listen.__struct_fields__:
        for address in getattr(configuration.listen, service):
            hosts.setdefault(parse_endpoint(address)[0], []).append(service)
    for host, services in hosts.items():
        if not _has_address(host):
            names = ", ".join(dict.fromkeys(services))
            yield f"listen.{names}: this machine has no address {host} now"


def _notes_on_folder(setting: str, folder: Path) -> Iterator[str]:
    """What would keep a server of this user from having it."""
    us = os.geteuid()
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        above = next(each for each in folder.absolute().parents if each.exists())
        # Root makes it for the server's user.
        if os.getuid() != 0 and not os.access(above, os.W_OK | os.X_OK):
            yield f"{setting}: {folder} is missing, and this user may not make it in {above}"
        elif setting == "data_dir":  # what a disk that is not mounted looks like
            yield f"{setting}: {folder} does not exist: the server makes it, with no domain and no mail in it"
    except OSError as error:
        yield f"{setting}: this user cannot look at {folder}: {error.strerror}"
    else:
        if us not in (0, owner):
            is_foreign = setting != "data_dir" and drop.has_others(folder)
            deed = f"run: chown -R {user_name(us)}: {folder}"
            deed = "it has files that are no mail: name a folder of its own" if is_foreign else deed
            yield f"{setting}: {folder} belongs to another user; {deed}"


def _has_address(host: str) -> bool:
    """True where it is not known: of a name."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return True
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True

"""pillarbox quickstart"""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from pillarbox.app import rights
from pillarbox.app.data_folder import ensure_ours
from pillarbox.app.unit_files import USUAL_USER, UnitNames, service_unit
from pillarbox.auth.passwords import check_new_password, hash_password
from pillarbox.certs.pair import read_pair
from pillarbox.cli.common import ask_new_password, directory_of, ensure_terminal, password_option
from pillarbox.cli.dns import show_records
from pillarbox.cli.options import config_option
from pillarbox.cli.zone import domain_records
from pillarbox.config.load import WrongConfiguration, load_config
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain, canonical_host
from pillarbox.core.errors import Refused
from pillarbox.core.secret import Secret
from pillarbox.outbound.signing import add_keys
from pillarbox.store.directory import canonical_address
from pillarbox.store.new_file import open_new

SYSTEM_CONFIG = Path("/etc/pillarbox/pillarbox.toml")
SYSTEM_DATA = "/var/lib/pillarbox"
UNIT = Path("/etc/systemd/system/pillarbox.service")
SYSTEMD_RUNS = Path("/run/systemd/system")


@dataclass(slots=True)
class _Answers:
    hostname: str
    domain: str
    account: str
    password: Secret


@click.command(
    short_help="Set a new server up.",
    epilog="Example: pillarbox quickstart --hostname mail.example.org --domain example.org"
    " --account alice@example.org --password-stdin < password",
)
@click.option("--hostname", metavar="NAME", help="Of this machine, as others know it.")
@click.option("--domain", metavar="DOMAIN", help="Whose mail is kept here.")
@click.option("--account", metavar="ADDRESS", help="The first account; it gets postmaster's mail.")
@password_option
@click.option("--password-file", metavar="FILE", help="Whose first line is the password.")
@click.option("--data-dir", metavar="FOLDER", help="Where mail is kept.")
@click.option("--certificate", metavar="FILE", default="", help="PEM; without, a private CA signs.")
@click.option("--key", metavar="FILE", default="", help="That of the certificate.")
@click.option(
    "--user",
    metavar="NAME",
    help=f'Whom the server becomes; root\'s is {USUAL_USER}, made if missing, else you. "": who starts it.',
)
@click.option("--service/--no-service", default=None, help="Install and start a unit of systemd.")
@click.option("--force", is_flag=True, help="Write over a configuration that is there.")
@config_option
def quickstart(
    hostname: str | None,
    domain: str | None,
    account: str | None,
    password_stdin: bool,
    password_file: str | None,
    data_dir: str | None,
    certificate: str,
    key: str,
    user: str | None,
    service: bool | None,
    force: bool,
) -> None:
    """Write a configuration, make a domain and its first account, and say what the DNS needs.

    What no option says is asked for. As root, it makes the user `pillarbox`, keeps mail in
    /var/lib/pillarbox, and offers to install and start a service of systemd.
    """
    path = _path(is_root=os.geteuid() == 0)
    if path.exists() and not force:
        raise Refused(f"{path} is there already; write over it with --force")
    answers = _ask(hostname, domain, account, lambda: _password(password_stdin, password_file))
    is_root = os.geteuid() == 0
    if user is None:
        user = USUAL_USER if is_root else _own_name()
    service = _wants_service(service, is_root=is_root)
    settings = {
        "hostname": answers.hostname,
        "data_dir": data_dir or (SYSTEM_DATA if is_root else "data"),
        "user": user,
        "certificate": os.path.abspath(certificate) if certificate else "",
        "key": os.path.abspath(key) if key else "",
    }
    if user and is_root:
        _ensure_user(user)
    config = _write(path, settings)
    click.echo(f"The configuration is {path}.")
    _make(config, answers)
    _say_dns(config, answers.domain)
    if service:
        _install(config, path)
    else:
        _say_how_to_start(path, config, is_root=is_root)


def _path(*, is_root: bool) -> Path:
    named = click.get_current_context().find_root().obj or os.environ.get("PILLARBOX_CONFIG")
    if named:
        return Path(named).absolute()
    return SYSTEM_CONFIG if is_root else Path("pillarbox.toml").absolute()


def _ask(
    hostname: str | None, domain: str | None, account: str | None, password: Callable[[], Secret]
) -> _Answers:
    """What is not given. Raises Refused when something cannot be meant."""
    own = socket.getfqdn()
    hostname = _valid(
        hostname or _prompt("Host name of this machine", own if "." in own else None, "--hostname"),
        _whole_host,
        "a host name that others can find, like mail.example.org",
    )
    parent = hostname.partition(".")[2]
    domain = _valid(
        domain or _prompt("Domain of the mail", parent if "." in parent else hostname, "--domain"),
        canonical_domain,
        "a domain",
    )
    account = account or _prompt("First account", f"admin@{domain}", "--account")
    if "@" not in account:
        account = f"{account}@{domain}"
    account = canonical_address(account)
    if account.rpartition("@")[2] != domain:
        raise Refused(f"{account} is not an address at {domain}")
    return _Answers(hostname, domain, account, password())


def _prompt(text: str, default: str | None, option: str) -> str:
    ensure_terminal(f"for the {text[0].lower()}{text[1:]}", option)
    answer: str = click.prompt(text, default=default, err=True)
    return answer.strip()


def _whole_host(text: str) -> str:
    """Raises ValueError also for a name without a domain: it goes into the DNS records."""
    name = canonical_host(text)
    if "." not in name:
        raise ValueError
    return name


def _valid(text: str, canonical: Callable[[str], str], what: str) -> str:
    try:
        return canonical(text)
    except ValueError as error:
        raise Refused(f'"{text}" is not {what}') from error


def _password(from_stdin: bool, file: str | None) -> Secret:
    if file is None:
        return ask_new_password(from_stdin, "--password-stdin or --password-file")
    password = Secret(Path(file).read_text("utf-8").partition("\n")[0].rstrip("\r"))
    check_new_password(password)
    return password


def _wants_service(service: bool | None, *, is_root: bool) -> bool:
    if service and not is_root:
        raise Refused("only root can install a service")
    if service is None and is_root and SYSTEMD_RUNS.is_dir() and sys.stdin.isatty():
        return click.confirm("Install and start a service of systemd?", default=True, err=True)
    return bool(service)


def _own_name() -> str:
    """Whose server it stays, also when root starts it; "" where the machine has no name for us, as in a container."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _ensure_user(name: str) -> None:
    """Make it, if the machine has none of this name."""
    try:
        rights.User(name)
    except Refused:
        command = ["useradd", "--system", "--home-dir", "/nonexistent", "--no-create-home"]
        _run([*command, "--shell", "/usr/sbin/nologin", "--", name])
        click.echo(f"This machine has a new user {name}.")


def _write(path: Path, settings: dict[str, str]) -> Config:
    """Appears whole and checked, or not at all. Raises Refused."""
    text = EXAMPLE
    for name, value in settings.items():
        found = re.search(rf'^{name} *= ".*"$', text, re.M)
        assert found
        line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
        text = text[: found.start()] + line + text[found.end() :]
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)  # whatever the umask is: the server's user must get there
    new = path.with_name(f".{path.name}.new")
    with open(open_new(new), "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)  # no secrets are in it, and the server's user must read it
    try:
        config = load_config(new)
        ensure_ours(config)
        for pair in config.tls.named_pairs:
            read_pair(pair)
        new.rename(path)
    except WrongConfiguration as wrong:  # nobody knows that file and its lines
        new.unlink()
        text = "\n".join(f"{fault.place}: {fault.text}" for _, fault in wrong.faults)
        raise Refused(text) from wrong
    except (Refused, OSError, ValueError) as error:
        new.unlink()
        text = error.text if isinstance(error, Refused) else f"tls: {error}"
        raise Refused(text.replace(f"{new}: ", "")) from error
    except BaseException:
        new.unlink()
        raise
    return config


def _make(config: Config, answers: _Answers) -> None:
    user = rights.server_user(config.user)
    if user is not None:
        config.data_path.mkdir(mode=0o700, exist_ok=True)
        if not config.data_path.is_symlink():
            rights.give_empty(
                config.data_path, user
            )  # new, or so far had come a run that was killed
    with rights.acting_as(user), directory_of(config) as directory:
        if answers.domain not in directory.domains():
            directory.add_domain(answers.domain)
            add_keys(directory, answers.domain, int(time.time()))
        if answers.account not in [each.address for each in directory.accounts(answers.domain)]:
            directory.add_account(answers.account, *hash_password(answers.password))
            click.echo(f"The account {answers.account} was added.")
        else:
            click.echo(f"The account {answers.account} is there already; its password stays.")
        postmaster = f"postmaster@{answers.domain}"
        if postmaster != answers.account and postmaster not in dict(directory.aliases()):
            directory.add_alias(postmaster, answers.account)


def _say_dns(config: Config, domain: str) -> None:
    with rights.acting_as(rights.server_user(config.user)), directory_of(config) as directory:
        keys = directory.dkim_keys.of(domain)
    click.echo("\nThe DNS needs these records:\n")
    show_records(
        config, domain, domain_records(config, domain, keys, int(time.time())), has_keys=bool(keys)
    )


def _install(config: Config, path: Path) -> None:
    names = UnitNames.of_this_program(path)
    if notes := names.notes(config):
        raise Refused("\n".join(f"no service was installed: {note}" for note in notes))
    try:
        UNIT.write_text(service_unit(config, names), "utf-8")
    except OSError as error:  # no systemd, perhaps
        raise Refused(f"no service was installed: {UNIT}: {error.strerror}") from error
    _run(["systemctl", "daemon-reload"])
    _run(["systemctl", "enable", "--now", UNIT.stem])
    click.echo("\nThe server runs: systemctl status pillarbox")


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"this failed: {' '.join(command)}") from error


def _say_how_to_start(path: Path, config: Config, *, is_root: bool) -> None:
    becomes = f" (it becomes {config.user} then)" if config.user else ""
    command = f"{_own_command()} --config {path}"
    click.echo(f"\nStart it in the foreground, as root for ports below 1024{becomes}:")
    click.echo(f"  {command} serve")
    if notes := UnitNames.of_this_program(path).notes(config):
        click.echo("It cannot be a service of systemd as it is:")
        for note in notes:
            click.echo(f"  {note}")
        return
    click.echo(f"or as a service of systemd{'' if is_root else ', as root'}:")
    click.echo(f"  {command} systemd-unit > {UNIT}")
    click.echo(f"  systemctl daemon-reload && systemctl enable --now {UNIT.stem}")


def _own_command() -> str:
    """How this program was called, so that it can be called again."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"{sys.executable} -m pillarbox"
    return "pillarbox" if shutil.which("pillarbox") == called else called

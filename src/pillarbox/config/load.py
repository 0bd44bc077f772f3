"""Finding, reading and checking the configuration file."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from stat import S_ISDIR

import msgspec

from pillarbox.config.acme import acme_problems
from pillarbox.config.files import make_absolute, unusable_files
from pillarbox.config.lines import find_lines, line_of, parse_place
from pillarbox.config.logins import directory_problems, oauth_problems
from pillarbox.config.schema import Config, Listen, Route
from pillarbox.config.shape import Fault, check_shape, follows
from pillarbox.core.address import canonical_host
from pillarbox.core.duration import parse_duration
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.core.networks import parse_networks

SMALLEST_MESSAGE_LIMIT = 65_536
"""RFC 5321 §4.5.3.1.7 demands 64 KiB."""
LARGEST_MESSAGE_LIMIT = 1 << 30

SMALLEST_TRACE = 1 << 20

MOST_WORKERS = 64
"""`store.place` says why."""


def find_config(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """--config FILE, else $PILLARBOX_CONFIG, else ./pillarbox.toml, else /etc/pillarbox/pillarbox.toml.

    Raises Refused if there is none, and for root where that of this folder is another user's.
    """
    named = option or environment.get("PILLARBOX_CONFIG")
    if named:
        path = Path(named)
        if path.is_dir():
            raise Refused(f"{path} is a folder; name the configuration file in it")
        if not path.is_file():
            raise Refused(f"there is no configuration file {path}")
        return path
    here = Path("pillarbox.toml")
    if here.is_file():
        if os.geteuid() == 0 and here.stat().st_uid != 0:  # root would run what it names
            raise Refused(
                f"{here.absolute()} is another user's, and you are root; if you mean it: --config {here}"
            )
        return here
    general = Path("/etc/pillarbox/pillarbox.toml")
    if general.is_file():
        return general
    raise Refused(
        "there is no configuration: make one with `pillarbox quickstart`, or by hand from that of"
        " `pillarbox config example`, or name one with --config FILE"
    )


class WrongConfiguration(Refused):
    """A file with faults: `faults` are (line from 1, or None, and what is wrong there)."""

    def __init__(self, path: Path, faults: list[tuple[int | None, Fault]]) -> None:
        lines = (
            f"{path}{f':{line}' if line else ''}: {fault.place}: {fault.text}"
            for line, fault in faults
        )
        super().__init__("\n".join(lines))
        self.faults = faults


def load_config(
    path: Path,
    *,
    needs_files: bool = True,
    acting: Callable[[Config], AbstractContextManager[None]] = lambda _config: nullcontext(),
) -> Config:
    """Read and check a file, and whether the files that it names can be used, by us and while `acting` as the server's
    user, where these are needed. Raises Refused with all that is wrong, a line each."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is not UTF-8 text") from error
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Among them are numbers of thousands of digits, and brackets in brackets in brackets.
        raise Refused(f"{path} is not valid TOML: {error}{_hint(text, str(error))}") from error
    shape = check_shape(document)
    config = msgspec.convert(document, Config)
    make_absolute(config, path.resolve().parent)
    problems = [*find_problems(config)]
    try:
        problems += unusable_files(config, acting(config)) if needs_files else ()
    except Refused as refused:  # there is no such user
        problems.append(refused.text)
    problems = list(dict.fromkeys(problems))  # each is told once
    faults = shape.faults + [
        Fault(place, words)
        for place, _, words in (problem.partition(": ") for problem in problems)
        if not follows(place, words, shape.faults)
    ]
    if faults:
        raise WrongConfiguration(path, _with_lines(text, faults, shape.renamed))
    return config


def _hint(text: str, error: str) -> str:
    """Where TOML wants something else than what stands behind a name, mostly text has no quotes."""
    if not (found := re.search(r"\(at line (\d+), column \d+\)$", error)):
        return ""
    line = text.split("\n")[int(found[1]) - 1]
    name, _, value = (part.strip() for part in line.partition("#")[0].partition("="))
    if not value or value.startswith(("[", "{")) or '"' in value or "'" in value:
        return ""
    if value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return "; write true or false"
    return f'; text needs quotes: {name} = "{value}"'


def _with_lines(
    text: str, faults: list[Fault], renamed: Mapping[str, str]
) -> list[tuple[int | None, Fault]]:
    """In the order of the file; first what stands nowhere in it."""
    lines = find_lines(text)
    for right, wrong in renamed.items():
        lines.update({(right, *at[1:]): line for at, line in [*lines.items()] if at[0] == wrong})
    found = [(line_of(lines, parse_place(fault.place)), fault) for fault in faults]
    return sorted(found, key=lambda each: each[0] or 0)


def find_problems(config: Config) -> Iterator[str]:
    """What a type cannot say, in one line each, with what to do."""
    try:
        canonical_host(config.hostname)
    except ValueError:
        yield f'hostname: "{config.hostname}" is not a host name; use one like "mail.example.org"'
    if not config.data_dir:
        yield "data_dir: name a folder"
    elif _is_no_folder(config.data_path):
        yield f"data_dir: {config.data_path} is not a folder"
    yield from _listen_problems(config.listen)
    if bool(config.tls.certificate) != bool(config.tls.key):
        yield "tls: certificate and key go together; set both or neither"
    for number, pair in enumerate(config.tls.certificates):
        for name in ("certificate", "key"):
            if not getattr(pair, name):
                yield f"tls.certificates[{number}].{name}: name a file"
    if config.tls.acme:
        yield from acme_problems(config.tls)
    yield from oauth_problems(config.oauth)
    yield from directory_problems(config.directory)
    if not SMALLEST_MESSAGE_LIMIT <= config.smtp.max_message_size <= LARGEST_MESSAGE_LIMIT:
        yield f"smtp.max_message_size: must be {SMALLEST_MESSAGE_LIMIT} to {LARGEST_MESSAGE_LIMIT} (bytes)"
    if config.imap.hierarchy_separator not in ("/", "."):
        yield 'imap.hierarchy_separator: must be "/" or "."'
    if not 0 <= config.workers <= MOST_WORKERS:
        yield f"workers: must be 0 (one for each core) to {MOST_WORKERS}"
    if not 1 <= config.outbound.mx_port <= 65535:
        yield "outbound.mx_port: must be 1 to 65535"
    yield from _outbound_problems(config)
    for zone in config.doctor.block_lists:
        try:
            canonical_host(zone)
        except ValueError:
            yield f'doctor.block_lists: "{zone}" is not a zone; use one like "zen.spamhaus.org"'
    for domain, route in config.outbound.routes.items():
        yield from _route_problems(domain, route)
    for name in ("greeting_delay", "error_delay"):
        try:
            if parse_duration(getattr(config.smtp, name)) > 60:
                yield f"smtp.{name}: must be 60s or less"
        except ValueError as error:
            yield f"smtp.{name}: {error}"
    try:
        if parse_duration(config.pop3.login_delay) > 86400:
            yield "pop3.login_delay: must be 1d or less"
    except ValueError as error:
        yield f"pop3.login_delay: {error}"
    if config.pop3.expire_days < 0:
        yield "pop3.expire_days: must be 0 (for ever) or more"
    if not 1 <= config.explain.keep_days <= 3650:
        yield "explain.keep_days: must be 1 to 3650; to record nothing, set enabled = false"
    if config.explain.max_size < SMALLEST_TRACE:
        yield f"explain.max_size: must be {SMALLEST_TRACE} or more (bytes)"
    if config.security.connections_per_address < 1:
        yield "security.connections_per_address: must be 1 or more"
    for section in ("smtp", "submission"):
        limits = getattr(config, section)
        for name in limits.__struct_fields__:
            if "_per_" in name and getattr(limits, name) < 0:
                yield f"{section}.{name}: must be 0 (no limit) or more"
    for name, networks in (
        ("smtp.trusted_networks", config.smtp.trusted_networks),
        ("smtp.xclient_from", config.smtp.xclient_from),
        ("security.never_throttled", config.security.never_throttled),
        ("security.proxy_protocol_from", config.security.proxy_protocol_from),
    ):
        for network in networks:
            try:
                if not parse_networks([network]).networks[0].prefixlen:
                    yield f"{name}: all of the Internet cannot be trusted; name networks of yours"
            except ValueError as error:
                yield f"{name}: {error}"


def _is_no_folder(path: Path) -> bool:
    """Whether something else is there."""
    try:
        return not S_ISDIR(path.stat().st_mode)
    except OSError:
        return False  # it may be made, or who uses it says why that cannot be


_USUAL_PORTS = {
    "submission": 587,
    "submissions": 465,
    "lmtp": 24,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
    "metrics": 9090,
}
"""For examples; 25 for all others."""


def _listen_problems(listen: Listen) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for service in listen.__struct_fields__:
        for address in getattr(listen, service):
            try:
                host, port = parse_endpoint(address, _USUAL_PORTS.get(service, 25))
            except ValueError as error:
                yield f"listen.{service}: {error}"
                continue
            if not _is_ip_address(host):
                yield f'listen.{service}: "{host}" is not an IP address'
            if service == "lmtp" and port == 25:
                yield "listen.lmtp: LMTP must not use port 25"  # RFC 2033 §5
            if port and (host, port) in taken:
                yield f"listen.{service}: {address} is taken by {taken[host, port]} already"
            taken[host, port] = service


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _outbound_problems(config: Config) -> Iterator[str]:
    settings = config.outbound
    if settings.smarthost:
        try:
            parse_endpoint(settings.smarthost)
        except ValueError:
            yield f'outbound.smarthost: "{settings.smarthost}" must look like "smtp.example.org:465"'
    yield from _credential_problems(
        "outbound", "smarthost_", settings.smarthost_username, settings.smarthost_password_file
    )
    times = {}
    for name in ("warn_after", "give_up_after"):
        try:
            times[name] = parse_duration(getattr(settings, name))
        except ValueError as error:
            yield f"outbound.{name}: {error}"
    if len(times) == 2 and times["give_up_after"] <= times["warn_after"]:
        yield "outbound.warn_after: must be less than give_up_after; 0s for no notice of delay"
    if settings.give_up_after.startswith("0"):
        yield 'outbound.give_up_after: mail needs some time; RFC 5321 advises 4 or 5 days ("5d")'
    if settings.copy_bounces_to and not settings.copy_bounces_to.rpartition("@")[0]:
        yield f'outbound.copy_bounces_to: "{settings.copy_bounces_to}" is not a mail address'
    for server in config.dns.servers:
        try:
            ipaddress.ip_address(parse_endpoint(server)[0])
        except ValueError:
            yield f'dns.servers: "{server}" must look like "192.0.2.1:53" or "[2001:db8::1]:53"'


def _credential_problems(place: str, prefix: str, username: str, file: str) -> Iterator[str]:
    if bool(username) != bool(file):
        yield f"{place}: {prefix}username and {prefix}password_file go together"


def _route_problems(domain: str, route: Route) -> Iterator[str]:
    place = f'outbound.routes."{domain}"'
    try:
        canonical_host(domain.removeprefix("*."))
    except ValueError:
        yield f'{place}: "{domain}" is not a domain; use one like "example.com" or "*.example.com"'
    if route.host:
        try:
            parse_endpoint(route.host)
        except ValueError:
            yield f'{place}.host: "{route.host}" must look like "relay.example.org:25"'
    elif route.protocol == "lmtp" or route.username:
        yield f"{place}: name the host; without one, mail goes where the DNS says"
    if route.username and route.tls != "verified":
        yield f'{place}: a password goes out under verified TLS only; set tls = "verified"'
    yield from _credential_problems(place, "", route.username, route.password_file)

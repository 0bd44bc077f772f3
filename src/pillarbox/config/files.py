"""The files that a configuration names."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pillarbox.config.regular_file import read_regular, why_no_secret
from pillarbox.config.schema import Config

_PAIR = ("certificate", "key")
"""Where a user is named, only root may be able to read these, and we may be that user."""


def _named(config: Config) -> list[tuple[str, Any, str]]:
    """(place in the configuration, section, setting) of each."""
    pairs = enumerate(config.tls.certificates)
    of_pairs = [(f"tls.certificates[{number}]", pair) for number, pair in pairs]
    return [
        *(("tls", config.tls, name) for name in (*_PAIR, "client_ca", "acme_ca_file")),
        *((place, pair, name) for place, pair in of_pairs for name in _PAIR),
        *([("oauth", config.oauth, "jwks")] if "://" not in config.oauth.jwks else []),
        ("oauth", config.oauth, "client_secret_file"),
        ("directory", config.directory, "ca_file"),
        ("directory", config.directory, "bind_password_file"),
        ("directory", config.directory, "token_file"),
        ("outbound", config.outbound, "smarthost_password_file"),
        *(
            (f'outbound.routes."{domain}"', route, "password_file")
            for domain, route in config.outbound.routes.items()
        ),
    ]


def make_absolute(config: Config, base: Path) -> None:
    """All paths, from those that are relative to the folder of the configuration."""
    if config.data_dir:
        config.data_dir = str(base / config.data_dir)
    for _, section, name in (*_named(config), ("sendmail", config.sendmail, "drop_dir")):
        value = getattr(section, name)
        if value:
            setattr(section, name, str(base / value))


def files_named_by(config: Config) -> list[Path]:
    """Each once."""
    values = [getattr(section, name) for _, section, name in _named(config)]
    return list(dict.fromkeys(Path(value) for value in values if value))


def unusable_files(config: Config, acting: AbstractContextManager[None]) -> Iterator[str]:
    """Those that this process cannot read, or could not while `acting` as the server's user, and those that are
    not what they should be, in one line each: a server needs them, most commands do not."""
    ours = dict(_unusable(config))
    for place, why in ours.items():
        yield f"{place}: {why}"
    with acting:
        users = dict(_unusable(config))
    for place, why in users.items():
        if place not in ours:
            advice = f"see that {config.user} may read it, and look into the folders above it"
            yield f"{place}: {why}: {advice}"


def _unusable(config: Config) -> Iterator[tuple[str, str]]:
    """Place in the configuration, and why."""
    for place, section, name in _named(config):
        file = getattr(section, name)
        if file and (
            why := _why_unusable(file, name, only_root_may=bool(config.user) and name in _PAIR)
        ):
            yield f"{place}.{name}", f"{file} {why}"


def _why_unusable(file: str, setting: str, *, only_root_may: bool) -> str:
    try:
        octets = read_regular(Path(file))
    except PermissionError as error:
        return "" if only_root_may else f"cannot be read: {error.strerror}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    look = _LOOKS.get(setting)
    return look(octets) if look else ""


def _why_no_authorities(octets: bytes) -> str:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=octets.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        return "must be PEM with the certificate of a CA"
    return ""


def _why_no_jwks(octets: bytes) -> str:
    """RFC 7517 §5"""
    try:
        found = json.loads(octets.decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    is_set = isinstance(found, dict) and isinstance(found.get("keys"), list)
    return "" if is_set else 'must be a JWKS: a JSON object like {"keys": [...]}'


def _why_no_token(octets: bytes) -> str:
    """It stands in a header field (RFC 6750 §2.1)."""
    return why_no_secret(octets) or (
        "" if octets.isascii() else "must be one line of ASCII: the token"
    )


_LOOKS: dict[str, Callable[[bytes], str]] = {
    **dict.fromkeys(("client_ca", "acme_ca_file", "ca_file"), _why_no_authorities),
    "jwks": _why_no_jwks,
    "token_file": _why_no_token,
    **dict.fromkeys(
        ("client_secret_file", "bind_password_file", "smarthost_password_file", "password_file"),
        why_no_secret,
    ),
}
"""What keeps the content of a file from being what its setting names."""

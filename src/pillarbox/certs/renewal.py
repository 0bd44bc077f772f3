"""A certificate by ACME: where it is kept, when it is renewed, and how long to wait after a failure.

`data_dir/tls/acme.pem` holds the key and the chain in one file, so that both change at once; `acme-account-key.pem` is
our account with the CA. What talks to the CA (`certs/order.py`) takes 30 MB, and waits: it runs as a program of its
own, for as long as one order. Nothing here imports it.
"""

import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pillarbox.certs.files import write_whole
from pillarbox.certs.pair import Pair, Paths, read_pair
from pillarbox.config.schema import Config

FIRST_PAUSE_S, LONGEST_PAUSE_S = 300, 6 * 3600
"""After a failure, doubled with each one: CAs turn away who fails often within an hour."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Orders in a row that failed."""

    count: int = 0
    last: float = 0.0
    """When the last one did, in seconds since 1970."""
    reason: str = ""


def acme_paths(config: Config) -> Paths:
    """One file, as certificate and as key; it need not be there yet."""
    path = config.data_path / "tls" / "acme.pem"
    return path, path


def account_key_path(config: Config) -> Path:
    return config.data_path / "tls" / "acme-account-key.pem"


def wanted_names(config: Config) -> tuple[str, ...]:
    """That the certificate must have, the host's if no others are configured."""
    names = config.tls.acme_names or [config.hostname]
    return tuple(dict.fromkeys(name.lower().removesuffix(".") for name in names))


def is_due(config: Config, now: datetime.datetime) -> bool:
    """Whether a new certificate is needed: at two thirds of the lifetime, or because there is none that has all names.
    Blocks."""
    try:
        pair = read_pair(acme_paths(config))
    except (OSError, ValueError):
        return True
    return set(pair.names) != set(wanted_names(config)) or now >= renewal_time(pair)


def renewal_time(pair: Pair) -> datetime.datetime:
    """Two thirds of its lifetime."""
    return pair.start + (pair.end - pair.start) * 2 / 3


def pause_s(failures: Failures) -> float:
    """How long after the last failure the next attempt is."""
    if not failures.count:
        return 0.0
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures.count - 1, 16))


def read_failures(config: Config) -> Failures:
    """They are kept in a file, so a server that is started again and again does not anger the CA. Blocks."""
    try:
        found = json.loads(_failures_path(config).read_bytes())
        return Failures(int(found["count"]), float(found["last"]), str(found["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Failures()


def note_failure(config: Config, reason: str, now: float) -> Failures:
    """Raises OSError."""
    failures = Failures(read_failures(config).count + 1, now, reason)
    document = {"count": failures.count, "last": failures.last, "reason": failures.reason}
    path = _failures_path(config)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, json.dumps(document).encode(), 0o600)
    return failures


def forget_failures(config: Config) -> None:
    """An order succeeded. Raises OSError."""
    path = _failures_path(config)
    if path.exists():
        os.unlink(path)


def _failures_path(config: Config) -> Path:
    return config.data_path / "tls" / "acme-failures.json"

"""The certificates that listeners present: the one whose name the client says (SNI), else the first; read again when
their files change. Without any in the configuration it is the private CA's.

A new pair that is no good leaves its old one in use. While a file is being replaced the pair may not fit for a moment,
so a fault is told only when the files did not change from one look to the next.
"""

import datetime
import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pillarbox.certs.memory_files import as_files
from pillarbox.certs.names import ByName
from pillarbox.certs.pair import Contents, Pair, Paths, parse_pair
from pillarbox.certs.private_ca import ensure_certificate
from pillarbox.certs.renewal import acme_paths
from pillarbox.config.regular_file import read_regular
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.net.tls import server_context
from pillarbox.store.database import user_name
from pillarbox.store.owned import why_denied

log = logging.getLogger("pillarbox.certs")


@dataclass(slots=True)
class _Held:
    """A pair in use."""

    paths: Paths
    contents: Contents
    pair: Pair
    context: ssl.SSLContext
    login_context: ssl.SSLContext


class Certificates:
    """One for each process. Opening blocks: it may make keys."""

    def __init__(
        self,
        config: Config,
        now: Callable[[], datetime.datetime],
        read: Callable[[Path], bytes] = read_regular,
    ) -> None:
        """`read` gives what stands in a file that the configuration names. Raises Refused when the files are no good,
        with a line for each fault."""
        self._read = read
        self._config = config
        self._now = now
        self._held: list[_Held] = []
        self._mutex = threading.Lock()  # of looks
        self._faulty: dict[Paths, Contents | None] = {}
        """Files that are no good, as they were at the last look; None: they could not even be found."""
        self._told: set[Paths] = set()
        problems = []
        try:
            self._all_paths = find_paths(config, now())
        except (OSError, ValueError) as error:
            raise Refused(self._refusal(error)) from error
        for paths in self._all_paths:
            try:
                self._held.append(self._load(paths, self._contents(paths)))
            except (OSError, ValueError) as error:
                problems.append(self._refusal(error))
        if problems:
            raise Refused("\n".join(problems))
        self._arrange()

    @property
    def pairs(self) -> list[Pair]:
        """Those in use, the first one first."""
        return [held.pair for held in self._held]

    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._held[0].context

    def login_context(self) -> ssl.SSLContext:
        """Likewise, for services where users log in: clients may show a certificate, if that is configured."""
        return self._held[0].login_context

    def refresh(self) -> None:
        """Renew what the private CA signed, then look at all files. Blocks."""
        try:
            self._all_paths = find_paths(self._config, self._now())
        except (OSError, ValueError) as error:
            log.error(
                "the new TLS certificate cannot be used, the old one stays: %s",
                words(error, self._config.data_path),
            )
            return
        self.look(at_once=True)

    def look(self, *, at_once: bool = False) -> None:
        """Take up files that changed; keeps a pair whose new files are no good, or expired while it has not.
        `at_once`: tell of them even if they may be changing just now. Blocks."""
        with self._mutex:
            if self._look(at_once=at_once):
                self._arrange()

    def _look(self, *, at_once: bool) -> bool:
        if self._config.tls.acme and (first := acme_paths(self._config))[0].exists():
            self._all_paths[0] = first  # it has come
        changed = False
        for place, held in enumerate(self._held):
            paths = self._all_paths[place]
            seen: Contents | None = None
            try:
                seen = self._contents(paths)
                if seen == held.contents and paths == held.paths:
                    self._faulty.pop(paths, None)
                    if paths in self._told:
                        log.info("the TLS certificate %s is again the one in use", paths[0])
                    self._told.discard(paths)
                    continue
                if self._faulty.get(paths, ()) == seen and paths in self._told and not at_once:
                    continue  # as bad as it was
                new = parse_pair(paths, seen)
                if new.end <= self._now() < held.pair.end:
                    raise ValueError(f"{paths[0]}: {_expired(new)}")
                self._held[place] = self._load(paths, seen)
                changed = True
                self._faulty.pop(paths, None)
                self._told.discard(paths)
                log.info("the new TLS certificate %s is in use", paths[0])
            except (OSError, ValueError) as error:
                self._blame(paths, seen, error, at_once=at_once)
        return changed

    def _blame(
        self, paths: Paths, seen: Contents | None, error: Exception, *, at_once: bool
    ) -> None:
        is_settled = paths in self._faulty and self._faulty[paths] == seen
        if not is_settled:
            self._told.discard(paths)
        if at_once or (is_settled and paths not in self._told):
            self._told.add(paths)
            log.error(
                "the new TLS certificate cannot be used, the old one stays: %s",
                words(error, self._config.data_path),
            )
        self._faulty[paths] = seen

    def _load(self, paths: Paths, contents: Contents) -> _Held:
        """Raises OSError, ValueError."""
        pair = parse_pair(paths, contents)
        with as_files(contents) as files:
            context = server_context(*files[:2])
            login_context = server_context(*files) if self._config.tls.client_ca else context
        for problem in problems_of(pair, self._now()):
            log.warning("the TLS certificate %s: %s", paths[0], problem)
        return _Held(paths, contents, pair, context, login_context)

    def _contents(self, paths: Paths) -> Contents:
        """Of all files of a pair; what we have made ourselves needs nobody else to read it. Raises OSError."""
        is_ours = paths[0].parent == self._config.data_path / "tls"
        read = read_regular if is_ours else self._read
        client_ca = self._config.tls.client_ca
        return tuple(read(path) for path in paths) + (
            (read_regular(Path(client_ca)),) if client_ca else ()
        )

    def _refusal(self, error: Exception) -> str:
        return f"the TLS certificate cannot be used: {words(error, self._config.data_path)}"

    def _arrange(self) -> None:
        """Let clients have the certificate of the name that they say."""
        if len(self._held) == 1:
            return  # clients that know another name see at once what is wrong
        first = self._held[0]
        plain = ByName((held.pair.names, held.context) for held in self._held)
        login = ByName((held.pair.names, held.login_context) for held in self._held)
        first.context.sni_callback = _chooser(plain)
        first.login_context.sni_callback = _chooser(login)


def _chooser(by_name: ByName[ssl.SSLContext]) -> Callable[..., None]:
    def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        """RFC 6066 §3: an unknown name is no reason to end the handshake."""
        found = by_name.find(name) if name else None
        if found is not None:
            connection.context = found

    return choose


def find_paths(config: Config, now: datetime.datetime) -> list[Paths]:
    """Of all pairs, the first one first; makes what the private CA has to sign. Raises OSError, ValueError."""
    paths = configured_paths(config)
    if not paths or (config.tls.acme and paths[0] != acme_paths(config)):
        paths.insert(0, ensure_certificate(config.data_path / "tls", config.hostname, now))
    return paths


def configured_paths(config: Config) -> list[Paths]:
    """Of the pairs that the configuration names, and of that by ACME once it is there. Blocks."""
    has_come = config.tls.acme and acme_paths(config)[0].exists()
    return ([acme_paths(config)] if has_come else []) + config.tls.named_pairs


def days_left(pair: Pair, now: datetime.datetime) -> int:
    """Whole days until a pair expires, below 0 since it did."""
    return (pair.end - now).days


def problems_of(pair: Pair, now: datetime.datetime) -> list[str]:
    """What lets clients refuse a pair that can be used."""
    problems = []
    if pair.end <= now:
        problems.append(_expired(pair))
    if pair.start > now:
        problems.append(f"it is not valid before {pair.start:%Y-%m-%d %H:%M} UTC")
    if not pair.names and not pair.addresses:
        problems.append(
            "it has no subjectAltName that can be read: clients will not trust it for any name"
        )
    return problems


def _expired(pair: Pair) -> str:
    return f"it expired on {pair.end:%Y-%m-%d %H:%M} UTC"


def _why_shut(path: Path, data_dir: Path | None) -> str:
    """What others have made, like /etc/letsencrypt, is not to be given to the server."""
    if data_dir is not None and path.is_relative_to(data_dir):
        return why_denied(path)
    us = user_name(os.geteuid())
    return f"{us} may not read it; do this as root, or let {us} read it and look into the folders above"


def words(error: Exception, data_dir: Path | None = None) -> str:
    """What is wrong with files, in one line; those in `data_dir` are the server's own."""
    if isinstance(error, ssl.SSLError):  # an OSError, too
        return f"OpenSSL does not take it ({error.reason or error})"
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}: {_why_shut(Path(error.filename), data_dir)}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)

"""The certificate that listeners present, made anew when its files change; the private CA's when none is configured."""

import datetime
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from pillarbox.certs.memory_files import as_files
from pillarbox.certs.private_ca import ensure_certificate
from pillarbox.config.schema import Config
from pillarbox.core.errors import Refused
from pillarbox.net.tls import server_context

log = logging.getLogger("pillarbox.certs")


class Certificates:
    """One for each process. Opening blocks: it may make keys."""

    def __init__(
        self,
        config: Config,
        now: Callable[[], datetime.datetime],
        read: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        """`read` gives what stands in a file. Raises Refused when the files are no good."""
        self._read = read
        self._config = config
        self._now = now
        try:
            self._paths = self._find()
            self._contents = self._read_all()
            self._load(self._contents)
        except (OSError, ValueError) as error:
            raise Refused(
                f"the TLS certificate cannot be used: {_in_plain_words(error)}"
            ) from error

    def context(self) -> ssl.SSLContext:
        """The present one, for the next handshake."""
        return self._context

    def login_context(self) -> ssl.SSLContext:
        """Likewise, for services where users log in: clients may show a certificate, if that is configured."""
        return self._login_context

    def _read_all(self) -> list[bytes]:
        return [self._read(path) for path in self._paths]

    def _load(self, contents: list[bytes]) -> None:
        client_ca = self._config.tls.client_ca
        with as_files(contents) as (certificate, key):
            context = server_context(certificate, key)
            self._login_context = (
                server_context(certificate, key, client_ca) if client_ca else context
            )
        self._context = context

    def refresh(self) -> None:
        """Take up new files and renew what the private CA signed; keeps what there is when they are no good."""
        try:
            self._paths = self._find()
            contents = self._read_all()
            if contents != self._contents:
                self._load(contents)
                self._contents = contents
                log.info("the new TLS certificate %s is in use", self._paths[0])
        except (OSError, ValueError) as error:
            log.error(
                "the new TLS certificate cannot be used, the old one stays: %s",
                _in_plain_words(error),
            )

    def _find(self) -> tuple[Path, Path]:
        tls = self._config.tls
        if tls.certificate:
            return Path(tls.certificate), Path(tls.key)
        return ensure_certificate(
            self._config.data_path / "tls", self._config.hostname, self._now()
        )


def _in_plain_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):  # an OSError, too
        return f"it is not PEM, or the key is not that of the certificate ({error.reason or error})"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)

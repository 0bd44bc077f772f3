"""Where a test may put something of its own in the place of a part of the server; `pillarbox.testing` does."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pillarbox.app.services import make_services
from pillarbox.certs.present import Certificates
from pillarbox.config.schema import Config
from pillarbox.net.service import Service
from pillarbox.outbound.session import TlsContexts
from pillarbox.queue.attempt import FindRoute
from pillarbox.smtpd.context import SmtpContext


@dataclass(slots=True, frozen=True)
class Seams:
    """A server that serves has these as they are."""

    clock: Callable[[], float] = time.time
    """Of the queue: when mail for other hosts is tried, and given up."""
    find_route: FindRoute | None = None
    """None: as the configuration and the DNS say."""
    tls: TlsContexts | None = None
    """For sessions with other hosts; None: the system's certificates are trusted."""
    make_services: Callable[[Config, SmtpContext, Certificates], dict[str, Service]] = make_services

"""What all SMTP sessions of a server share, and what kind of server each port is."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pillarbox.auth.login import Authenticator
from pillarbox.core.networks import NO_NETWORKS, Networks
from pillarbox.core.rate import Rate
from pillarbox.core.tally import Tally
from pillarbox.queue.notice import Notices
from pillarbox.sasl.mechanisms import Needs, offered
from pillarbox.smtp.events import (
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    Xclient,
)
from pillarbox.smtp.options import Limits, ServerOptions
from pillarbox.smtpd.sender_domain import SenderDomains
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store
from pillarbox.trace.recorder import Recorder

SERVICES = ("smtp", "submission", "submissions", "lmtp")
SUBMISSION = ("submission", "submissions")

_COMMANDS: dict[type, str] = {
    Hello: "EHLO",
    Mail: "MAIL",
    Rcpt: "RCPT",
    DataStart: "DATA",
    BodyEnd: "end of data",
    Reset: "RSET",
    Quit: "QUIT",
    Xclient: "XCLIENT",
}


def command_of(event: Event) -> str:
    """For `net.service.Service`."""
    return _COMMANDS.get(event.__class__, "")


def _random_bits() -> int:
    return random.getrandbits(20)


def _nobody(_domain: str) -> bool:
    return False


@dataclass(slots=True)
class Rates:
    """How often in a minute. Strangers are known by their network (`core.networks.network_of`)."""

    connections: Rate = field(default_factory=lambda: Rate(0))
    messages: Rate = field(default_factory=lambda: Rate(0))
    """Of strangers."""
    account_messages: Rate = field(default_factory=lambda: Rate(0))


@dataclass(slots=True)
class SmtpContext:
    """One for each server."""

    store: Store
    authenticator: Authenticator
    hostname: str
    max_message_size: int
    """Octets, announced as SIZE."""
    allow_cleartext_login: bool
    """A laboratory: AUTH is offered without TLS, and on port 25."""
    spool_room: SpoolRoom
    notices: Notices
    """To senders, and through their queue what goes to other hosts."""
    trusted: Networks = NO_NETWORKS
    """Hosts that may send to anybody without a login."""
    takes_for: Callable[[str], bool] = _nobody
    """Whether mail for a domain that is not ours is taken from everybody."""
    is_routed: Callable[[str], bool] = _nobody
    """Whether the configuration names the host that mail for a domain goes to."""
    xclient_from: Networks = NO_NETWORKS
    """Clients that may speak for others by XCLIENT."""
    greeting_delay_s: float = 0.0
    """How long strangers wait for the greeting on port 25: who speaks before it is sent away."""
    error_delay_s: float = 0.0
    """How much longer each further error of a client waits for its answer (`smtp.options.Limits`)."""
    rates: Rates = field(default_factory=Rates)
    tally: Tally = field(default_factory=Tally)
    sender_domains: SenderDomains | None = None
    """None: strangers' senders are not looked up."""
    clock: Callable[[], float] = time.time
    entropy: Callable[[], int] = _random_bits
    """20 random bits, for queue ids."""
    recorder: Recorder = field(init=False)
    """The store's."""
    options: dict[str, ServerOptions] = field(init=False)
    """By name of the service."""

    def __post_init__(self) -> None:
        self.recorder = self.store.recorder
        self.options = {name: self._options(name) for name in SERVICES}

    def may_send_on(self, domain: str) -> bool:
        """Whether mail for a domain that is not ours can go to other hosts, for those who may send it. Where there is
        no domain at all, the host in the DNS may be this one, with the disk of its data folder not mounted."""
        return self.store.directory.has_domains() or self.is_routed(domain)

    def _options(self, service: str) -> ServerOptions:
        is_submission = service in SUBMISSION
        offers_auth = is_submission or (service == "smtp" and self.allow_cleartext_login)
        return ServerOptions(
            self.hostname,
            self.max_message_size,
            starttls=True,
            mechanisms=offered(Needs.NOTHING) if offers_auth else (),
            cleartext_auth=self.allow_cleartext_login,
            requires_auth=is_submission,
            lmtp=service == "lmtp",
            limits=Limits(error_delay_s=self.error_delay_s),
        )

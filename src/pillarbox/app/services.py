"""The services by name: how a session of each is made."""

from collections.abc import Callable
from typing import Any

from pillarbox.app.outbound import Outbound
from pillarbox.app.shared import Shared
from pillarbox.auth.login import Authenticator
from pillarbox.certs.present import Certificates
from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.duration import parse_duration
from pillarbox.core.networks import parse_networks
from pillarbox.core.tally import PROTOCOL_OF, SERVICES, Tally
from pillarbox.imapd.context import ImapContext
from pillarbox.imapd.session import ImapSession
from pillarbox.imapd.session import command_of as imap_command
from pillarbox.net.connection import Connection
from pillarbox.net.service import Service
from pillarbox.net.session import Session
from pillarbox.pop3d.session import Pop3Context, Pop3Session
from pillarbox.pop3d.session import command_of as pop3_command
from pillarbox.smtpd.context import Rates, SmtpContext
from pillarbox.smtpd.context import command_of as smtp_command
from pillarbox.smtpd.sender_domain import SenderDomains
from pillarbox.smtpd.session import SmtpSession
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store

IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})
"""RFC 8314 §3.3"""

_Kind = tuple[Callable[[Connection], Session], bytes, Callable[[Any], str]]
"""How a session is made, what a peer gets that cannot have one, and the names of its commands."""

# What a peer gets that cannot be served now.
SMTP_TURNED_AWAY = b"421 4.3.2 Too many connections; try again later\r\n"  # RFC 5321 §3.8
IMAP_TURNED_AWAY = b"* BYE [UNAVAILABLE] Too many connections; try again later\r\n"  # RFC 5530 §3
POP3_TURNED_AWAY = b"-ERR [SYS/TEMP] Too many connections; try again later\r\n"  # RFC 3206 §4


def make_smtp_context(
    config: Config,
    store: Store,
    authenticator: Authenticator,
    spool_room: SpoolRoom,
    outbound: Outbound,
    shared: Shared,
    tally: Tally,
) -> SmtpContext:
    """What all that takes mail in shares."""
    return SmtpContext(
        store,
        authenticator,
        canonical_domain(config.hostname),
        config.smtp.max_message_size,
        config.security.allow_cleartext_login,
        spool_room,
        outbound.notices,
        parse_networks(config.smtp.trusted_networks),
        outbound.router.takes_from_strangers,
        outbound.router.is_routed,
        parse_networks(config.smtp.xclient_from),
        parse_duration(config.smtp.greeting_delay),
        parse_duration(config.smtp.error_delay),
        Rates(
            shared.rate(0, config.smtp.connections_per_minute),
            shared.rate(1, config.smtp.messages_per_minute),
            shared.rate(2, config.submission.messages_per_minute),
        ),
        tally,
        # Who does not talk to other hosts has no use for their DNS either.
        SenderDomains(outbound.router.resolver.run) if outbound.sends else None,
    )


def make_services(
    config: Config, smtp: SmtpContext, certificates: Certificates
) -> dict[str, Service]:
    """All services by the names of the configuration's [listen]."""
    cleartext = config.security.allow_cleartext_login
    store, authenticator = smtp.store, smtp.authenticator
    imap = ImapContext(
        store,
        authenticator,
        smtp.spool_room,
        config.imap.hierarchy_separator,
        config.smtp.max_message_size,
        cleartext,
        config.imap.literals == "LITERAL-",
        config.imap.unauthenticate,
    )
    pop3 = Pop3Context(
        store,
        authenticator,
        cleartext,
        parse_duration(config.pop3.login_delay),
        config.pop3.expire_days,
        config.pop3.utf8,
    )

    def new_smtp(connection: Connection) -> Session:
        return SmtpSession(connection, smtp)

    def new_imap(connection: Connection) -> Session:
        return ImapSession(connection, imap)

    def new_pop3(connection: Connection) -> Session:
        return Pop3Session(connection, pop3)

    of_smtp: _Kind = (new_smtp, SMTP_TURNED_AWAY, smtp_command)
    of_imap: _Kind = (new_imap, IMAP_TURNED_AWAY, imap_command)
    of_pop3: _Kind = (new_pop3, POP3_TURNED_AWAY, pop3_command)
    kinds = {"smtp": of_smtp, "lmtp": of_smtp, "imap": of_imap, "pop3": of_pop3}
    return {
        name: Service(
            name,
            new_session,
            turned_away,
            name in IMPLICIT_TLS,
            # Other servers have certificates that mean nothing to us: none are asked for where mail comes in.
            certificates.context if name in ("smtp", "lmtp") else certificates.login_context,
            command_of,
            smtp.tally,
            store.recorder,
        )
        for name, (new_session, turned_away, command_of) in (
            (name, kinds[PROTOCOL_OF[name]]) for name in SERVICES
        )
    }

"""The services by name: how a session of each is made."""

import ssl
from collections.abc import Callable

from pillarbox.auth.login import Authenticator
from pillarbox.config.schema import Config
from pillarbox.net.connection import Connection, Service, Session
from pillarbox.pop3d.session import TURNED_AWAY as POP3_TURNED_AWAY
from pillarbox.pop3d.session import Pop3Context, Pop3Session
from pillarbox.store.spool import SpoolRoom
from pillarbox.store.store import Store

IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})
"""RFC 8314 §3.3"""

SMTP_TURNED_AWAY = b"421 4.3.2 Too many connections; try again later\r\n"
IMAP_TURNED_AWAY = b"* BYE [UNAVAILABLE] Too many connections; try again later\r\n"


def make_services(
    config: Config,
    store: Store,
    authenticator: Authenticator,
    spool_room: SpoolRoom,
    tls: Callable[[], ssl.SSLContext],
) -> dict[str, Service]:
    """All services by the names of the configuration's [listen]."""
    pop3 = Pop3Context(store, authenticator, config.security.allow_cleartext_login)

    def new_pop3(connection: Connection) -> Session:
        return Pop3Session(connection, pop3)

    makers: dict[str, tuple[Callable[[Connection], Session], bytes]] = {
        "pop3": (new_pop3, POP3_TURNED_AWAY),
        "pop3s": (new_pop3, POP3_TURNED_AWAY),
    }
    return {
        name: Service(name, new_session, turned_away, name in IMPLICIT_TLS, tls)
        for name, (new_session, turned_away) in makers.items()
    }

"""What the log hears where a session cannot look for changes."""

import logging

from pillarbox.core.errors import Failure
from pillarbox.store.store import Store

log = logging.getLogger("pillarbox.imapd")


def log_unseen(store: Store, connection: str, failure: Failure) -> None:
    """Nothing where the account was just removed: the session is about to end, or no longer shares its mailbox."""
    if not store.is_removed(failure):
        log.warning("%s: cannot look for changes: %s", connection, failure.told)

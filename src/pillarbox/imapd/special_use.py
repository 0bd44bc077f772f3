"""Special uses that clients may give to mailboxes (RFC 6154)."""

from collections.abc import Iterable

from pillarbox.core.errors import Refused
from pillarbox.store import mailboxes

_SPECIAL_USES = {use.lower().encode(): use for _, use in mailboxes.FIRST_MAILBOXES if use}
"""\\All and \\Flagged are virtual mailboxes, which there are none of."""


def parse_special_uses(attributes: Iterable[bytes]) -> str:
    """Each once, parted by spaces. Raises Refused USEATTR for what cannot be (RFC 6154 §3)."""
    wanted = dict.fromkeys(attribute.lower() for attribute in attributes)
    if not wanted.keys() <= _SPECIAL_USES.keys():
        raise Refused("the special uses are: " + " ".join(_SPECIAL_USES.values()), "USEATTR")
    return " ".join(_SPECIAL_USES[attribute] for attribute in wanted)

"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314 §7); the last and GETACL take a mailbox only."""

from dataclasses import dataclass

from pillarbox.core.errors import RemoteError
from pillarbox.imap.grammar import Cursor
from pillarbox.sasl.exchange import MAX_IDENTITY_OCTETS
from pillarbox.sasl.saslprep import saslprep

_RIGHTS = {right: right for right in "lrswipkxtea"} | {"c": "kx", "d": "te"}
"""What each letter stands for; "c" and "d" are those of RFC 2086 (RFC 4314 §2.1.1)."""


@dataclass(slots=True)
class Acl:
    """`identifier` is prepared, never empty. For SETACL, `mode` is "+", "-" or "=" and `rights` have no "c" or "d"."""

    mailbox: str
    identifier: str
    mode: str = ""
    rights: str = ""


def parse_identifier(cursor: Cursor) -> Acl:
    """DELETEACL and LISTRIGHTS."""
    cursor.space()
    mailbox = cursor.mailbox()
    cursor.space()
    text = cursor.utf8_astring("an identifier")
    # Nobody can log in by a longer one, and the time of `saslprep` grows with the square of the length.
    if len(text.encode()) > MAX_IDENTITY_OCTETS:
        raise RemoteError("The identifier is too long")
    try:
        identifier = saslprep(text, stored=False)
    except ValueError as error:
        raise RemoteError(f"The identifier cannot be one: {error}") from None
    if not identifier:  # RFC 4314 §3: MUST be BAD
        raise RemoteError("The identifier is empty")
    return Acl(mailbox, identifier)


def parse_set_acl(cursor: Cursor) -> Acl:
    args = parse_identifier(cursor)
    cursor.space()
    text = cursor.utf8_astring("rights")
    args.mode = text[0] if text[:1] in ("+", "-") else "="
    letters = text if args.mode == "=" else text[1:]
    if not set(letters) <= set(_RIGHTS):  # RFC 4314 §3.1: MUST be BAD
        raise RemoteError("Unknown right, or one in upper case")
    args.rights = "".join(_RIGHTS[letter] for letter in letters)
    return args

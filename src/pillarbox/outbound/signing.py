"""DKIM signatures on what our users and we ourselves send to other hosts (RFC 6376 §5, RFC 8463).

The domain of From signs with each of its active keys, last of all: nothing changes the message any more. So that no
host on the way has to, 8-bit parts and long lines are encoded first (RFC 6376 §5.3). Mail whose
author is not of our domains, or of one without keys, goes unsigned. Where a key cannot be used, mail goes without its
signature and the log says so: unsigned mail is taken nearly everywhere, and mail must not wait for an administrator.
A directory that cannot be read is a temporary failure, here as for everything else.
"""

import logging
import re
import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from pillarbox.core.secret import Secret
from pillarbox.dkim.keys import (
    PrivateKey,
    format_key,
    make_ed25519_key,
    make_rsa_key,
    parse_key,
    record_text,
)
from pillarbox.dkim.sign import Signer, author_domain, sign
from pillarbox.mime.convert import Transport, convert, fits, has_utf8_header
from pillarbox.store.content import LARGEST_INLINE
from pillarbox.store.directory import Directory
from pillarbox.store.dkim_keys import DkimKey, KeyState
from pillarbox.store.outgoing_row import EIGHT_BIT, SEVEN_BIT, UTF8_HEADER
from pillarbox.store.store import Store

MOST_DOMAINS_REMEMBERED = 1000
"""Who is trusted may send as anybody."""

_SIGNATURE = b"DKIM-Signature: v=1; "
_NAMES = re.compile(rb"[^\r]* a=([a-z0-9-]+);[^\r]*\r\n d=([^;]+);\r\n s=([^;]+);")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
"""Of `dkim.sign`."""

log = logging.getLogger("pillarbox.dkim")


@dataclass(slots=True)
class MailSigner:
    """Signs for the domains of a directory. One for each server: it remembers parsed keys until the directory is
    changed, by whomever."""

    store: Store
    _signers: dict[str, list[Signer]] = field(default_factory=dict, init=False)
    """By domain: its active keys; an empty list where there are none."""
    _version: tuple[int, int] = field(default=(0, 0), init=False)
    """Of the directory when the keys were read."""
    _signs: bool = field(default=False, init=False)
    """Whether there are any keys."""

    async def sign(self, message: bytes) -> bytes:
        """`message` (its lines end with CRLF), 7-bit as far as that can be, with the signatures in front of it, if
        there are any. Raises Unavailable.
        """
        has_keys = self._has_keys()
        if len(message) <= LARGEST_INLINE and fits(message, Transport.SEVEN_BIT):
            domain = author_domain(message) if has_keys else None
        else:
            message, domain = await self.store.compute(
                lambda: _prepare(message, find_domain=has_keys)
            )
        signers = self._signers_of(domain) if domain is not None else []
        if not signers:
            return message
        now = int(self.store.clock())
        try:
            return await self.store.compute_sized(
                len(message), lambda: sign(message, signers, now) + message
            )
        except ValueError:
            log.warning("a message from %s goes unsigned: its header has too many fields", domain)
            return message

    async def needs(self, message: bytes, *, utf8: bool) -> int:
        """What a message needs of the next host (`store.outgoing`); `utf8`: it came with SMTPUTF8. Without that, 8-bit
        header fields are what they always were, and most hosts with 8BITMIME let them pass."""
        if message.isascii():
            return SEVEN_BIT
        if utf8 and await self.store.compute_sized(len(message), lambda: has_utf8_header(message)):
            return UTF8_HEADER
        return EIGHT_BIT

    def _has_keys(self) -> bool:
        """Forgets what is known if the directory was changed since."""
        directory = self.store.directory
        version = directory.file.version()
        if version != self._version:
            self._signers.clear()
            self._signs = directory.dkim_keys.any_active()
            self._version = version
        return self._signs

    def _signers_of(self, domain: str) -> list[Signer]:
        signers = self._signers.get(domain)
        if signers is None:
            found = self.store.directory.dkim_keys.private(domain)
            signers = [signer for key, pem in found if (signer := _parse(key, pem)) is not None]
            if len(self._signers) >= MOST_DOMAINS_REMEMBERED:
                self._signers.clear()
            self._signers[domain] = signers
        return signers


def describe(before: bytes, after: bytes) -> list[str]:
    """What `sign` has done to a message, for people."""
    notes = []
    start = 0
    while after.startswith(_SIGNATURE, start):
        match = _NAMES.match(after, start)
        end = _FIELD_END.search(after, start)
        if match is None or end is None:
            break
        algorithm, domain, selector = (each.decode("ascii") for each in match.groups())
        notes.append(f"signed with DKIM: {algorithm}, d={domain}, s={selector}")
        start = end.end()
    if len(after) - start != len(before):
        notes.insert(0, "made 7-bit")
    return notes


def _prepare(message: bytes, *, find_domain: bool) -> tuple[bytes, str | None]:
    """The message as it will be sent, and the domain that signs it."""
    if not fits(message, Transport.SEVEN_BIT):
        message = convert(message, Transport.SEVEN_BIT)
    return message, author_domain(message) if find_domain else None


def _parse(key: DkimKey, pem: Secret) -> Signer | None:
    """None: it cannot be used, which is logged."""
    try:
        return Signer(key.domain, key.selector, parse_key(pem.reveal().encode("ascii")))
    except ValueError as error:
        log.error(
            "the DKIM key %s of %s cannot be used, mail goes without its signature: %s",
            key.selector,
            key.domain,
            error,
        )
        return None


def add_keys(directory: Directory, domain: str, now: int) -> list[DkimKey]:
    """Make an RSA and an Ed25519 key for a canonical domain at `now` (epoch seconds); returns what may be shown.

    They sign at once where none does; else they are new, until `DkimKeys.activate`. Blocks for some tenths
    of a second. Raises Unavailable.
    """
    known = directory.dkim_keys.of(domain)
    is_first = all(key.state is not KeyState.ACTIVE for key in known)
    state = KeyState.ACTIVE if is_first else KeyState.NEW
    taken = {key.selector for key in known}
    date = time.strftime("%Y%m%d", time.gmtime(now))
    made: list[tuple[DkimKey, Secret]] = []
    for private_key in (make_rsa_key(), make_ed25519_key()):
        algorithm = "rsa" if isinstance(private_key, RSAPrivateKey) else "ed25519"
        selector = _free_selector(f"{algorithm}-{date}", taken)
        record = record_text(private_key)
        key = DkimKey(domain, selector, algorithm, record, state, now, now)
        made.append((key, _pem(private_key)))
    directory.dkim_keys.add(made)
    return [key for key, _ in made]


def _free_selector(wanted: str, taken: set[str]) -> str:
    """Example: "rsa-20261123", and "rsa-20261123-2" for the second one of a day."""
    selector, number = wanted, 1
    while selector in taken:
        number += 1
        selector = f"{wanted}-{number}"
    return selector


def _pem(key: PrivateKey) -> Secret:
    return Secret(format_key(key).decode("ascii"))

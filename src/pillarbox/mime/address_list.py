"""Address lists of From, To and their kin (RFC 5322 §3.4, obsolete forms §4.4), as IMAP's address structures.

Tolerant: any octets give a list. What is enclosed in quotes is given without them, encoded words and 8-bit octets
stay as they came.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pillarbox.mime.comments import comment_end

MAX_ADDRESSES = 1000
"""After so many entries of one list, group markers included, the rest of it is not looked at."""

_MAX_TOKENS = 10 * MAX_ADDRESSES
"""Likewise of words and specials: so many are in that many usual addresses."""


@dataclass(slots=True)
class AddressStructure:
    """One entry, as in RFC 3501 §7.4.2.

    `host` None marks a group: it starts where `mailbox` is its name, and ends where `mailbox` is None too. An address
    without a domain has the host `b""`. `adl` is the source route, `b"@a,@b"`.
    """

    name: bytes | None
    adl: bytes | None
    mailbox: bytes | None
    host: bytes | None


_ATEXT = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOT_ATOM = rb"%b++(?:\.%b++)*+" % (_ATEXT, _ATEXT)
# The two forms that nearly all addresses have, up to the comma or the end.
_USUAL = re.compile(
    rb'[ \t]*+(?:(?:"([^"\\\x00-\x1f]*+)" ?|((?:[ ]?%b++)++) ?)?<(%b)@(%b)>|(%b)@(%b))[ \t]*+(?:,|\Z)'
    % (_ATEXT, _DOT_ATOM, _DOT_ATOM, _DOT_ATOM, _DOT_ATOM)
)

_TOKEN = re.compile(
    rb'(?P<space>[ \t\r\n]++)|"(?P<quoted>(?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|(?P<literal>\[(?:[^]\\]++|\\.)*+(?:]|\\?\Z))'
    rb'|(?P<special>[(<>@,;:.])|(?P<atom>[^ \t\r\n"\[(<>@,;:.]++)',
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)

_Token = tuple[bool, str, bytes]
"""Whether white space or a comment stands before it; kind; octets (of a quoted string: its content)."""


def parse_address_list(raw: bytes) -> list[AddressStructure]:
    """The entries of an unfolded address list in order; each group that starts also ends.

    `b'"Doe, J" <j@example.org>'` -> `[AddressStructure(b"Doe, J", None, b"j", b"example.org")]`.
    """
    entries: list[AddressStructure] = []
    position, end = 0, len(raw)
    while position < end and len(entries) < MAX_ADDRESSES:
        usual = _USUAL.match(raw, position)
        if usual is None:
            return _parse_tolerant(raw)
        quoted, phrase, local, domain, bare_local, bare_domain = usual.groups()
        if local is None:
            entries.append(AddressStructure(None, None, bare_local, bare_domain))
        else:
            name = phrase.strip() if phrase is not None else quoted
            entries.append(AddressStructure(name or None, None, local, domain))
        position = usual.end()
    return entries


def _parse_tolerant(raw: bytes) -> list[AddressStructure]:
    entries: list[AddressStructure] = []
    mailbox = _Mailbox()
    in_group = False
    for token in islice(_tokens(raw), _MAX_TOKENS):
        _, kind, octets = token
        if kind == "comment":
            mailbox.comment = octets
        elif kind != "special" or octets in b".@":
            mailbox.add(token)
        elif octets == b"<":
            if mailbox.angle is not None:  # a comma is missing
                mailbox.append_to(entries)
                mailbox = _Mailbox()
            mailbox.angle = []
            mailbox.in_angle = True
        elif octets == b">":
            mailbox.in_angle = False
        elif mailbox.in_angle and (octets == b":" or (octets == b"," and mailbox.in_route())):
            mailbox.add(token)
        elif octets == b":":
            if in_group:
                entries.append(AddressStructure(None, None, None, None))
            entries.append(AddressStructure(None, None, _phrase(mailbox.tokens), None))
            in_group = True
            mailbox = _Mailbox()
        else:  # a comma or a semicolon
            mailbox.append_to(entries)
            mailbox = _Mailbox()
            if octets == b";" and in_group:
                entries.append(AddressStructure(None, None, None, None))
                in_group = False
        if len(entries) >= MAX_ADDRESSES:
            break
    else:
        mailbox.append_to(entries)
    if in_group:
        entries.append(AddressStructure(None, None, None, None))
    return entries


def _tokens(raw: bytes) -> Iterator[_Token]:
    position, end = 0, len(raw)
    spaced = False
    while position < end:
        match = _TOKEN.match(raw, position)
        assert match is not None  # each octet begins one of the alternatives
        kind = match.lastgroup or ""
        octets = match[kind]
        position = match.end()
        if kind == "space":
            spaced = True
        elif kind == "special" and octets == b"(":
            position = comment_end(raw, match.start())
            yield spaced, "comment", _unquote(raw[match.end() : position].removesuffix(b")"))
            spaced = True
        else:
            yield spaced, kind, _unquote(octets) if kind == "quoted" else octets
            spaced = False


class _Mailbox:
    """What was read since the last separator."""

    __slots__ = ("angle", "comment", "in_angle", "tokens")

    def __init__(self) -> None:
        self.tokens: list[_Token] = []
        self.angle: list[_Token] | None = None
        self.in_angle = False
        self.comment: bytes | None = None

    def add(self, token: _Token) -> None:
        if self.in_angle and self.angle is not None:
            self.angle.append(token)
        elif self.angle is None:
            self.tokens.append(token)
        # What stands after the `>` says nothing.

    def in_route(self) -> bool:
        """RFC 5322 §4.4 obs-route: from `<@` to the colon."""
        if not self.in_angle or not self.angle:
            return False
        return _is_special(self.angle[0], b"@") and not _is_special(self.angle[-1], b":")

    def append_to(self, entries: list[AddressStructure]) -> None:
        """Nothing is appended for an empty entry, as in `a@b,,c@d`."""
        if self.angle is not None:
            name, adl, address = _phrase(self.tokens) or self.comment, None, self.angle
            if address and address[0][1:] == ("special", b"@"):
                colon = next((n for n, token in enumerate(address) if token[2] == b":"), -1)
                if colon > 0:
                    adl, address = _join(address[:colon]), address[colon + 1 :]
            mailbox, host = _split_addr_spec(address)
            entries.append(AddressStructure(name or None, adl, mailbox, host))
        elif self.tokens:
            words, address = _split_name(self.tokens)
            mailbox, host = _split_addr_spec(address)
            entries.append(
                AddressStructure(_phrase(words) or self.comment or None, None, mailbox, host)
            )


def _is_special(token: _Token, octets: bytes) -> bool:
    return token[1] == "special" and token[2] == octets


def _split_name(tokens: list[_Token]) -> tuple[list[_Token], list[_Token]]:
    """A display name before an address that lacks its angle brackets: `John Doe john@example.org`."""
    at = next((n for n, token in enumerate(tokens) if _is_special(token, b"@")), None)
    if at is None:
        return [], tokens
    start = at
    while start > 0 and (
        start == at
        or not tokens[start][0]
        or _is_special(tokens[start], b".")
        or _is_special(tokens[start - 1], b".")
    ):
        start -= 1
    return tokens[:start], tokens[start:]


def _split_addr_spec(tokens: list[_Token]) -> tuple[bytes, bytes]:
    at = next((n for n in range(len(tokens) - 1, -1, -1) if _is_special(tokens[n], b"@")), None)
    if at is None:
        return _phrase(tokens), b""
    domain = tokens[at + 1 :]
    for n in range(1, len(domain)):
        dotted = _is_special(domain[n], b".") or _is_special(domain[n - 1], b".")
        if domain[n][0] and not dotted:  # words after the domain
            del domain[n:]
            break
    return _join(tokens[:at]), _join(domain)


def _join(tokens: list[_Token]) -> bytes:
    return b"".join([octets for _, _, octets in tokens])


def _phrase(tokens: list[_Token]) -> bytes:
    """Words with one space where white space was."""
    rest = [b" " + octets if spaced else octets for spaced, _, octets in tokens[1:]]
    return b"".join([octets for _, _, octets in tokens[:1]] + rest)


def _unquote(octets: bytes) -> bytes:
    return _QUOTED_PAIR.sub(rb"\1", octets) if b"\\" in octets else octets

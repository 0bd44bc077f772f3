"""The arguments of SMTP commands (RFC 5321 §4.1.2, §4.1.3; RFC 6531 §3.3): octets in, values or the refusing reply out.

Strict: what the ABNF does not allow is refused, except where DEVIATES says so. All patterns run in time
linear in the line.
"""

import ipaddress
import re
from dataclasses import dataclass

from pillarbox.core.address import Address, canonical_domain
from pillarbox.smtp.extensions import Syntax
from pillarbox.smtp.reply import (
    BAD_RECIPIENT,
    BAD_SENDER,
    NON_ASCII_RECIPIENT,
    NON_ASCII_SENDER,
    UNKNOWN_PARAMETER,
    Reply,
    bad_syntax,
)

MAX_LOCAL_OCTETS = 64  # RFC 5321 §4.5.3.1.1, counted without quoting
MAX_DOMAIN_OCTETS = 255  # RFC 5321 §4.5.3.1.2
MAX_PATH_OCTETS = 256  # RFC 5321 §4.5.3.1.3, with the angle brackets and the source route

_ATOM = rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_DOT_STRING = _ATOM + rb"(?:\." + _ATOM + rb")*"
_QUOTED_STRING = rb'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 1035 §2.3.4: 63 octets
_DOMAIN = _LABEL + rb"(?:\." + _LABEL + rb")*"
_LITERAL = rb"\[[!-Z^-~]+\]"
# RFC 5321 §4.1.2 A-d-l: "MUST BE accepted, SHOULD NOT be generated, and SHOULD be ignored"
_ROUTE = rb"@" + _DOMAIN + rb"(?:,@" + _DOMAIN + rb")*:"

# RFC 6531 §3.3; that the octets are UTF-8 and the domain is one is seen afterwards
_UTF8_ATOM = rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff]+"
_UTF8_DOT_STRING = _UTF8_ATOM + rb"(?:\." + _UTF8_ATOM + rb")*"
_UTF8_QUOTED_STRING = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'
_UTF8_DOMAIN = rb"[A-Za-z0-9.\x80-\xff-]+"


def _path_pattern(dot_string: bytes, quoted_string: bytes, domain: bytes) -> re.Pattern[bytes]:
    # DEVIATES: RFC 5321 §3.3 allows no space behind the colon; common clients send one.
    return re.compile(
        rb" ?<(?:(?:%b)?(?P<mailbox>(?:(?P<atoms>%b)|(?P<quoted>%b))@(?:(?P<domain>%b)|(?P<literal>%b)))"
        rb"|(?P<postmaster>(?i:postmaster)))?>"
        % (_ROUTE, dot_string, quoted_string, domain, _LITERAL)
    )


_PATH = _path_pattern(_DOT_STRING, _QUOTED_STRING, _DOMAIN)
_UTF8_PATH = _path_pattern(_UTF8_DOT_STRING, _UTF8_QUOTED_STRING, _UTF8_DOMAIN)
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_UTF8_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")
_HELLO = re.compile(rb"([!-~]{1,255})(?: .*)?")
_IPV4 = re.compile(rb"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})")

UTF8 = "SMTPUTF8"
"""The parameter of MAIL (RFC 6531 §3.4)."""

_POSTMASTER = Address("postmaster", "")
_MAIL_SYNTAX = bad_syntax("MAIL FROM:<address> [parameters]")
_RCPT_SYNTAX = bad_syntax("RCPT TO:<address> [parameters]")
_PARAMETER_SYNTAX = Reply(501, "5.5.4", "Bad parameter syntax")


@dataclass(slots=True)
class PathArgument:
    """`address` is None for the null path; `raw` is the mailbox as written, without source route."""

    address: Address | None
    raw: str
    parameters: dict[str, str]


def parse_mail(argument: bytes, syntax: Syntax) -> PathArgument | Reply:
    """The argument of MAIL. Example: `b"FROM:<> SIZE=9"` -> `PathArgument(None, "", {"SIZE": "9"})`."""
    if argument[:5].upper() != b"FROM:":
        return _MAIL_SYNTAX
    path = _parse_path(argument, 5, syntax)
    if path is None or (isinstance(path, PathArgument) and path.address is _POSTMASTER):
        return BAD_SENDER
    if isinstance(path, PathArgument) and not path.raw.isascii() and UTF8 not in path.parameters:
        return NON_ASCII_SENDER
    return path


def parse_rcpt(argument: bytes, syntax: Syntax, *, utf8: bool = False) -> PathArgument | Reply:
    """The argument of RCPT; the address is never None. `utf8`: MAIL had SMTPUTF8. Example: `b"TO:<Postmaster>"`."""
    if argument[:3].upper() != b"TO:":
        return _RCPT_SYNTAX
    path = _parse_path(argument, 3, syntax)
    if path is None or (isinstance(path, PathArgument) and path.address is None):
        return BAD_RECIPIENT
    if isinstance(path, PathArgument) and not (utf8 or argument.isascii()):
        return NON_ASCII_RECIPIENT if not path.raw.isascii() else _PARAMETER_SYNTAX
    return path


def parse_hello(argument: bytes) -> str | None:
    """The domain of EHLO or HELO, None if there is none.

    DEVIATES: RFC 5321 §4.1.1.1 wants a domain or address literal; hosts with odd names (underscores) are
    many and their mail is wanted. What follows an address literal is ignored, as the section advises.
    """
    match = _HELLO.fullmatch(argument)
    return match[1].decode("ascii") if match else None


def _parse_path(argument: bytes, start: int, syntax: Syntax) -> PathArgument | Reply | None:
    """The path from `start` on and the parameters behind it; None if the path is malformed."""
    match = (_PATH if argument.isascii() else _UTF8_PATH).match(argument, start)
    if match is None or not (argument.isascii() or _is_utf8(match[0])):
        return None
    mailbox, atoms, quoted, domain, literal, postmaster = match.groups()
    if mailbox is None:
        address = _POSTMASTER if postmaster else None
    else:
        address = _mailbox(atoms, quoted, domain, literal)
        # RFC 5321 §4.5.3.1.3 counts the angle brackets, not the space before them
        if address is None or match.end() - argument.index(b"<", start) > MAX_PATH_OCTETS:
            return None
    tail = argument[match.end() :]
    parameters = parse_parameters(tail, syntax) if tail else {}
    if isinstance(parameters, Reply):
        return parameters
    return PathArgument(address, (mailbox or postmaster or b"").decode("utf-8"), parameters)


def _mailbox(
    atoms: bytes | None, quoted: bytes | None, domain: bytes | None, literal: bytes | None
) -> Address | None:
    """One of `atoms` and `quoted`, one of `domain` and `literal` is not None. None if over the limits."""
    # RFC 5321 §4.1.2: all quoted forms are equivalent, so the quoting goes
    local = atoms if atoms is not None else re.sub(rb"\\(.)", rb"\1", (quoted or b"")[1:-1])
    host = domain if domain is not None else literal or b""
    if len(local) > MAX_LOCAL_OCTETS or len(host) > MAX_DOMAIN_OCTETS:
        return None
    if literal is not None and not _is_address_literal(literal):
        return None
    name = host.decode("utf-8").lower()
    if not name.isascii():
        try:
            canonical_domain(name)
        except ValueError:
            return None
    return Address(local.decode("utf-8"), name)


def _is_utf8(octets: bytes) -> bool:
    """Whether octets are UTF-8 without control characters."""
    try:
        return octets.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _is_address_literal(literal: bytes) -> bool:
    """RFC 5321 §4.1.3. Of the general form no tag but IPv6 was ever registered."""
    content = literal[1:-1]
    if match := _IPV4.fullmatch(content):
        return all(int(number) <= 255 for number in match.groups())
    if content[:5].upper() != b"IPV6:" or b"%" in content:
        return False
    try:
        ipaddress.IPv6Address(content[5:].decode("ascii"))
    except ValueError:
        return False
    return True


def parse_parameters(tail: bytes, syntax: Syntax) -> dict[str, str] | Reply:
    """What follows a path, each parameter behind a space: names in upper case, values as they came."""
    if tail[:1] != b" ":
        return _PARAMETER_SYNTAX
    is_ascii = tail.isascii()
    if not (is_ascii or _is_utf8(tail)):
        return _PARAMETER_SYNTAX
    parameters: dict[str, str] = {}
    for parameter in tail.split():
        match = (_PARAMETER if is_ascii else _UTF8_PARAMETER).fullmatch(parameter)
        if match is None:
            return _PARAMETER_SYNTAX
        name = match[1].upper()
        value = match[2] or b""
        allowed = syntax.get(name)
        if allowed is None:
            return UNKNOWN_PARAMETER  # RFC 5321 §4.1.1.11
        keyword = name.decode("ascii")
        # RFC 1870 §6: only one SIZE; no other parameter has a sense twice either
        if keyword in parameters or not allowed.fullmatch(value):
            return _PARAMETER_SYNTAX
        parameters[keyword] = value.decode("utf-8")
    return parameters

"""The service extensions that the server speaks (RFC 5321 §2.2, §4.1.1.1). One row adds one.

A row says what the EHLO reply shows, None for nothing in this situation, and which MAIL and RCPT
parameters the extension brings, with the syntax of their values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pillarbox.smtp.options import ServerOptions


@dataclass(slots=True, frozen=True)
class Situation:
    """On what an offer depends."""

    options: ServerOptions
    tls: bool
    xclient: bool = False
    """The client may speak for others."""
    mechanisms: tuple[str, ...] = ()
    """SASL mechanisms, upper case."""

    @property
    def auth_offered(self) -> bool:
        return bool(self.mechanisms) and (self.tls or self.options.cleartext_auth)


XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")

Offer = Callable[[Situation], str | None]
Syntax = Mapping[bytes, re.Pattern[bytes]]
"""Upper-case parameter -> what its whole value must match; the value of a parameter without "=" is b""."""

_XTEXT = rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+"
"""RFC 3461 §4."""
_PRINTABLE_XTEXT = rb"(?:[!-*,-<>-~]|\+(?:09|[2-6][0-9A-F]|7[0-9A-E]))+"
"""RFC 3461 §4.2, §4.4: graphic characters and white space of US-ASCII."""
_UNITEXT = rb"(?:[!-*,-<>-\[\]-~\x80-\xff]|\\x\{[0-9A-F]{2,6}\})+"
"""RFC 6533 §3; octets over 127 only get here as UTF-8, behind SMTPUTF8."""
_ATOM = rb"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]+"
_WISH = rb"(?i:SUCCESS|FAILURE|DELAY)"


@dataclass(slots=True, frozen=True)
class Extension:
    offer: Offer
    mail_parameters: Syntax = field(default_factory=dict)
    rcpt_parameters: Syntax = field(default_factory=dict)


def _always(line: str) -> Offer:
    return lambda situation: line


def _size(situation: Situation) -> str:
    return f"SIZE {situation.options.size_limit_bytes}"


def _limits(situation: Situation) -> str:
    return f"LIMITS RCPTMAX={situation.options.limits.recipients}"


def _xclient(situation: Situation) -> str | None:
    return f"XCLIENT {' '.join(XCLIENT_ATTRIBUTES)}" if situation.xclient else None


def _starttls(situation: Situation) -> str | None:
    # RFC 3207 §4.2: not after the handshake
    return "STARTTLS" if situation.options.starttls and not situation.tls else None


def _auth(situation: Situation) -> str | None:
    return f"AUTH {' '.join(situation.mechanisms)}" if situation.auth_offered else None


EXTENSIONS: tuple[Extension, ...] = (
    # RFC 2920
    Extension(_always("PIPELINING")),
    # RFC 1870 §3: size-value is 1*20DIGIT
    Extension(_size, {b"SIZE": re.compile(rb"[0-9]{1,20}")}),
    # RFC 3207
    Extension(_starttls),
    # RFC 4954 §5
    Extension(_auth, {b"AUTH": re.compile(rb"<>|" + _XTEXT)}),
    # RFC 2034
    Extension(_always("ENHANCEDSTATUSCODES")),
    # RFC 6152
    Extension(_always("8BITMIME"), {b"BODY": re.compile(rb"(?i:7BIT|8BITMIME|BINARYMIME)")}),
    # RFC 3030; §3 adds a value to BODY
    Extension(_always("CHUNKING")),
    Extension(_always("BINARYMIME")),
    # RFC 3461 §4.1 to §4.4: NEVER stands alone; ENVID and ORCPT have 100 and 500 characters
    Extension(
        _always("DSN"),
        {
            b"RET": re.compile(rb"(?i:FULL|HDRS)"),
            b"ENVID": re.compile(rb"(?=.{1,100}\Z)" + _PRINTABLE_XTEXT),
        },
        {
            b"NOTIFY": re.compile(rb"(?i:NEVER)|%b(?:,%b)*" % (_WISH, _WISH)),
            b"ORCPT": re.compile(
                rb"(?=.{1,500}\Z)(?:%b;%b|(?i:utf-8);%b)" % (_ATOM, _PRINTABLE_XTEXT, _UNITEXT)
            ),
        },
    ),
    # RFC 6531 §3.4: without a value
    Extension(_always("SMTPUTF8"), {b"SMTPUTF8": re.compile(rb"")}),
    # RFC 9422 §3: what is enforced; messages and domains in a session are not limited
    Extension(_limits),
    # Postfix's XCLIENT_README; a secret from those who may not use it
    Extension(_xclient),
    # RFC 5321 §4.1.1.1: every command that §4.5.1 does not require is listed
    Extension(_always("HELP")),
)


def ehlo_lines(situation: Situation) -> list[str]:
    """The lines of the EHLO reply after the first, in the order of the table."""
    offers = (extension.offer(situation) for extension in EXTENSIONS)
    return [line for line in offers if line is not None]


MAIL_PARAMETERS: Syntax = MappingProxyType(
    {name: syntax for row in EXTENSIONS for name, syntax in row.mail_parameters.items()}
)
RCPT_PARAMETERS: Syntax = MappingProxyType(
    {name: syntax for row in EXTENSIONS for name, syntax in row.rcpt_parameters.items()}
)

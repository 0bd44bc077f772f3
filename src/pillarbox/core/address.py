"""A mail address and how two of them compare (RFC 5321 §2.3.11, §2.4; RFC 6531 §3.3)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import normalize


@dataclass(slots=True, frozen=True)
class Address:
    """`local` is unquoted text; `domain` is lower case, U-labels or A-labels as it came, or an address
    literal in brackets. An empty domain is allowed for `postmaster` only (RFC 5321 §4.1.1.3)."""

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local if is_dot_string(self.local) else quote_local(self.local)
        return f"{local}@{self.domain}" if self.domain else local


_ATEXT = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\U0010ffff]++"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*+")


def is_dot_string(local: str) -> bool:
    """Whether `local` can stand without quotes (RFC 5321 §4.1.2 Dot-string, RFC 6531 §3.3 for non-ASCII)."""
    return _DOT_STRING.fullmatch(local) is not None and local.isprintable()


def quote_local(local: str) -> str:
    """As a Quoted-string (RFC 5321 §4.1.2)."""
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def canonical_local(local: str) -> str:
    """The form in which local parts of our own are stored and compared: lower case, in NFC (RFC 6532 §3.1)."""
    return local.lower() if local.isascii() else normalize("NFC", local.lower())


LONGEST_DOMAIN = 1024
"""Characters that are looked at. 255 octets are the limit (RFC 1035 §2.3.4) of A-labels; U-labels may have somewhat
more characters, since some fall together, and turning them takes over a second for a megabyte."""


@lru_cache(maxsize=4096)
def canonical_domain(domain: str) -> str:
    """The form under which domains are stored and compared: A-labels, lower case, no final dot.

    Raises ValueError if it is not a host name (RFC 5321 §4.1.2, RFC 5890). Address literals pass unchanged.
    """
    if domain.startswith("["):
        return domain.lower()
    if len(domain) > LONGEST_DOMAIN:
        raise ValueError("a domain name is not so long")
    try:
        ascii_form = (
            domain.rstrip(".").encode("idna").decode("ascii").lower()
            if not domain.isascii()
            else domain.rstrip(".").lower()
        )
    except UnicodeError as error:
        raise ValueError(f"not a domain name: {domain}") from error
    labels = ascii_form.split(".")
    if len(ascii_form) > 253 or not ascii_form:
        raise ValueError(f"not a domain name: {domain}")
    for label in labels:
        if (
            not 0 < len(label) <= 63
            or not label.replace("-", "").replace("_", "").isalnum()
            or label[0] == "-"
            or label[-1] == "-"
        ):
            raise ValueError(f"not a domain name: {domain}")
    return ascii_form


def canonical_host(name: str) -> str:
    """As `canonical_domain`, of a name that can be ours: no IP address, with brackets or without (RFC 1123 §2.1).

    Raises ValueError.
    """
    canonical = canonical_domain(name)
    if canonical.startswith("[") or canonical.rpartition(".")[2].isdigit():
        raise ValueError(f"an IP address, not a domain name: {name}")
    return canonical

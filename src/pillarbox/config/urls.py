"""What may be wrong with a URL, in words that follow the name of its setting."""

import re
import urllib.parse

HERE = ("127.0.0.1", "::1", "localhost")


def parse_url(url: str) -> urllib.parse.SplitResult:
    """The parts of one that can be asked, as far as that can be said without a look-up; its scheme may be any, and its
    host none. Raises ValueError that says what it must be."""
    if re.search(r"[\0-\x20\x7f-\xa0]", url):
        raise ValueError("must have no spaces or control characters")
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        if "[" in url or "]" in url:
            raise ValueError("must have an IPv6 address whole in brackets") from None
        raise ValueError("must have a host name, and what stands in its place is none") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")
    try:
        host.encode("idna")  # as the system's look-up gets it
    except UnicodeError:
        raise ValueError(f'must have a host name, and "{host}" is none') from None
    if not (parts.path + parts.query).isascii():
        raise ValueError("must be ASCII behind its host: write other characters as %XX")
    return parts


def why_unsafe(url: str) -> str:
    """ "" for HTTPS, or HTTP to this machine: secrets go there."""
    try:
        parts = parse_url(url)
    except ValueError as error:
        return str(error)
    is_safe = parts.hostname if parts.scheme == "https" else parts.hostname in HERE
    if parts.scheme in ("https", "http") and is_safe:
        return ""
    return "must be an https URL (or http to this machine)"

"""For whom a trusted client speaks, by all its XCLIENT commands together (Postfix's XCLIENT_README)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pillarbox.smtp.events import Hello

_IPV6 = "IPV6:"


@dataclass(slots=True, frozen=True)
class SpokenFor:
    """Nothing is known of what is None. The NAME of a client is believed, and used for nothing."""

    client: tuple[str, int] | None = None
    """Address, "" where it is unavailable, and port."""
    server: tuple[str, int] | None = None
    helo: str | None = None
    extended: bool | None = None
    """PROTO was ESMTP."""

    def changed(self, attributes: Mapping[str, str]) -> "SpokenFor":
        """With what one more XCLIENT says. Raises ValueError with what is wrong."""
        result = self
        client = _endpoint(self.client, attributes.get("ADDR"), attributes.get("PORT"))
        server = _endpoint(self.server, attributes.get("DESTADDR"), attributes.get("DESTPORT"))
        result = replace(result, client=client, server=server)
        if "HELO" in attributes:
            result = replace(result, helo=attributes["HELO"] or None)
        if "PROTO" in attributes:
            proto = attributes["PROTO"].upper()
            if proto not in ("SMTP", "ESMTP", ""):
                raise ValueError("PROTO=SMTP or ESMTP")
            result = replace(result, extended=proto == "ESMTP" if proto else None)
        return result

    def hello(self, said: Hello) -> Hello:
        """The greeting of the client that is spoken for: what the proxy says for itself does not count."""
        extended = said.extended if self.extended is None else self.extended
        return Hello(extended, self.helo or said.domain)


def _endpoint(
    known: tuple[str, int] | None, address: str | None, port: str | None
) -> tuple[str, int] | None:
    if address is None and port is None:
        return known
    old_address, old_port = known or ("", 0)
    return (
        old_address if address is None else _address(address),
        old_port if port is None else _port(port),
    )


def _address(text: str) -> str:
    """IPv6 comes with a prefix, IPv4 without."""
    if not text:
        return ""
    try:
        if text[: len(_IPV6)].upper() == _IPV6:
            return str(ipaddress.IPv6Address(text[len(_IPV6) :].partition("%")[0]))
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise ValueError("ADDR=192.0.2.1 or ADDR=IPV6:2001:db8::1") from error


def _port(text: str) -> int:
    if not text:
        return 0
    if not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ValueError("PORT=0 to 65535")
    return int(text)

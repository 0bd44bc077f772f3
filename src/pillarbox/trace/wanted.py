"""What somebody looks for: a queue id, a Message-ID, an address, a domain, or a client's IP address."""

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum

from pillarbox.trace.events import (
    Accepted,
    AnyEvent,
    Attempt,
    Login,
    Noticed,
    Queued,
    Refused,
    Removed,
    Session,
    Uploaded,
)

_QUEUE_ID = re.compile(r"[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz]{12,20}")
_NUMBERS = re.compile(r"[0-9./]+|[0-9a-fA-F:/]+")
_DOMAIN = re.compile(r"@?[^\s@<>]+\.[^\s@<>.]+\.?")
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")


class Kind(Enum):
    QUEUE_ID = "queue id"
    MESSAGE_ID = "Message-ID"
    ADDRESS = "address"
    """Perhaps a Message-ID without its brackets."""
    DOMAIN = "domain"
    CLIENT = "client"


@dataclass(slots=True, frozen=True)
class Wanted:
    kind: Kind
    text: str
    """Addresses in lower case; a domain with its "@"."""

    @property
    def needle(self) -> str:
        """What stands in each line with an event that it fits."""
        return self.text.strip("<>")

    def fits(self, event: AnyEvent) -> bool:
        """Whether an event is about it."""
        if self.kind is Kind.CLIENT:
            return isinstance(event, Session | Login) and event.client == self.text
        if self.kind is Kind.QUEUE_ID:
            return self.text in queue_ids_of(event)
        if isinstance(event, Accepted | Uploaded | Refused) and self.names(event):
            return True
        if self.kind is Kind.MESSAGE_ID:
            return False
        addresses = {address.lower() for address in addresses_of(event)}
        if self.kind is Kind.ADDRESS:
            return self.text in addresses
        return any(address.endswith(self.text) for address in addresses)

    def names(self, event: Accepted | Uploaded | Refused) -> bool:
        """Whether it is the Message-ID of that very message."""
        return event.message_id.strip("<>").lower() == self.text.strip("<>").lower()


def parse_wanted(text: str) -> Wanted:
    """Raises ValueError with what it could have been."""
    text = text.strip()
    try:
        return Wanted(Kind.CLIENT, str(ipaddress.ip_address(text.strip("[]"))))
    except ValueError:
        pass
    if text[:1] == "<" and text[-1:] == ">" and len(text) > 2:
        return Wanted(Kind.MESSAGE_ID, text)
    if text[:1] != "@" and "@" in text and not text.isspace():
        is_address = _ADDRESS.fullmatch(text)
        return Wanted(Kind.ADDRESS if is_address else Kind.MESSAGE_ID, text.lower())
    if _QUEUE_ID.fullmatch(text):
        return Wanted(Kind.QUEUE_ID, text.upper())
    if _NUMBERS.fullmatch(text) and ("." in text or ":" in text):
        raise ValueError(f'"{text}" is not the IP address of a client; networks cannot be given')
    if _DOMAIN.fullmatch(text):
        return Wanted(Kind.DOMAIN, "@" + text.lower().strip("@."))
    raise ValueError(
        f'"{text}" is no queue id, Message-ID, address, domain, or IP address of a client'
    )


def queue_ids_of(event: AnyEvent) -> list[str]:
    """The messages that an event is about."""
    messages = getattr(event, "messages", None)
    if messages is not None:
        return [queue_id for queue_id, _ in messages]
    if isinstance(event, Noticed):
        return [event.queue_id, event.report]
    queue_id = getattr(event, "queue_id", "")
    return [queue_id] if queue_id else []


def addresses_of(event: AnyEvent) -> list[str]:
    """Senders and recipients, and those whose login did not work."""
    match event:
        case Accepted():
            found = [event.sender]
            for recipient, leads_to in event.recipients:
                found += [recipient, *leads_to]
            return found
        case Refused():
            said = re.findall(r"<([^<>]*)>", event.why) if event.what == "command" else []
            return [event.sender, *event.recipient.split(" "), *said]
        case Queued():
            return [event.sender, *(recipient for recipient, _ in event.recipients)]
        case Attempt():
            return [result.recipient for result in event.results]
        case Removed():
            return [event.sender, *event.recipients]
        case Noticed():
            return [event.to, *event.recipients]
        case Login():
            return [] if event.result == "ok" else [event.user]
    return []

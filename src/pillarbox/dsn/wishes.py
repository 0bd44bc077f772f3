"""What a sender wishes to be told: NOTIFY, RET, and xtext (RFC 3461 §4)."""

import re
from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What happened to a recipient, in the words of the Action field (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    """Handed to a host that knows no DSN, so no later word will come (RFC 3461 §5.2.2)."""
    EXPANDED = "expanded"
    """Delivered to an alias with several targets, and sent on (RFC 3461 §5.2.7.3)."""


@dataclass(slots=True, frozen=True)
class Wish:
    """NOTIFY and ORCPT of a recipient as they came, "" for none (RFC 3461 §4.1, §4.2)."""

    notify: str = ""
    orcpt: str = ""


NO_WISH = Wish()

_MOST_ORCPT = 500
"""Characters (RFC 3461 §4.2)."""

_KEYWORDS = {Action.FAILED: "FAILURE", Action.DELAYED: "DELAY"}
_DEFAULT = "FAILURE,DELAY"
"""RFC 3461 §4.1: without NOTIFY, failures are reported, and delays may be."""

_HEX = re.compile(r"\+([0-9A-F]{2})")
_NOT_XCHAR = re.compile(rb"[^!-*,-<>-~]")


def wants(notify: str, action: Action) -> bool:
    """Whether a recipient's NOTIFY value, "" for none, asks to be told of `action` (RFC 3461 §4.1)."""
    keywords = (notify or _DEFAULT).upper().split(",")
    return _KEYWORDS.get(action, "SUCCESS") in keywords


def without_success(notify: str) -> str:
    """NOTIFY for the targets of an alias whose own DSN said "expanded" (RFC 3461 §5.2.7.3 c).

    Example: "SUCCESS,FAILURE" -> "FAILURE". If success was all that was wanted, nothing is: "NEVER".
    """
    kept = [word for word in notify.upper().split(",") if word != "SUCCESS"]
    return ",".join(kept) or "NEVER"


def merge(one: Wish, other: Wish) -> Wish:
    """For a recipient that is reached in two ways and gets one copy: what either asks for is reported.

    Example: "NEVER" and "SUCCESS" are "SUCCESS".
    """
    if one.notify == other.notify:
        return one if one.orcpt else other
    lists = [(wish.notify or _DEFAULT).upper().split(",") for wish in (one, other)]
    words = dict.fromkeys(word for words in lists for word in words if word != "NEVER")
    return Wish(",".join(words), one.orcpt or other.orcpt)


def original_recipient(address: str) -> str:
    """ORCPT for an address that has none (RFC 3461 §5.2.1 d); "" where it would be too long."""
    orcpt = f"rfc822;{encode_xtext(address)}"
    return orcpt if len(orcpt) <= _MOST_ORCPT else ""


def decode_xtext(text: str) -> str:
    """Example: "a+2Bb" -> "a+b". What is no xtext stays as it is (RFC 3461 §4)."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def encode_xtext(text: str) -> str:
    """Example: "a+b" -> "a+2Bb" (RFC 3461 §4). Characters that are not ASCII are encoded octet by octet."""
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8")).decode(
        "ascii"
    )

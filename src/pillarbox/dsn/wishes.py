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

_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
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
    kind, encode = ("rfc822", encode_xtext) if address.isascii() else ("utf-8", encode_unitext)
    orcpt = f"{kind};{encode(address)}"
    return orcpt if len(orcpt) <= _MOST_ORCPT else ""


def decode_address(orcpt: str) -> tuple[str, str]:
    """(address type, address) of an ORCPT value (RFC 3461 §4.2, RFC 6533 §3)."""
    kind, _, address = orcpt.partition(";")
    decode = decode_unitext if kind.lower() == "utf-8" else decode_xtext
    return kind, decode(address)


def decode_unitext(text: str) -> str:
    """Example: "j\\x{F6}" -> "jö". What is no character stays as it is (RFC 6533 §3)."""

    def character(match: re.Match[str]) -> str:
        number = int(match[1], 16)
        is_character = number < 0x110000 and not 0xD800 <= number < 0xE000
        return chr(number) if is_character else match[0]

    return _UNICODE.sub(character, text)


def encode_unitext(text: str) -> str:
    """The 7-bit form of a UTF-8 address (RFC 6533 §3). Example: "jö" -> "j\\x{F6}"."""
    return _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", text)


def as_ascii(orcpt: str) -> str:
    """An ORCPT value for a host without SMTPUTF8 (RFC 6533 §3)."""
    kind, semicolon, address = orcpt.partition(";")
    return orcpt if orcpt.isascii() else f"{kind}{semicolon}{_escape_non_ascii(address)}"


def _escape_non_ascii(text: str) -> str:
    return "".join(char if char.isascii() else encode_unitext(char) for char in text)


def decode_xtext(text: str) -> str:
    """Example: "a+2Bb" -> "a+b". What is no xtext stays as it is (RFC 3461 §4)."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def encode_xtext(text: str) -> str:
    """Example: "a+b" -> "a+2Bb" (RFC 3461 §4). Characters that are not ASCII are encoded octet by octet."""
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], text.encode("utf-8")).decode(
        "ascii"
    )

"""The part of a report that people read: plain English, what happened first (RFC 3464 §2)."""

import re
from collections.abc import Iterable, Sequence
from textwrap import indent, wrap
from typing import Protocol

from pillarbox.dsn.wishes import Action, decode_address

SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed, and is being tried again",
    Action.EXPANDED: "Your message was delivered",
    Action.RELAYED: "Your message was handed on",
    Action.DELIVERED: "Your message was delivered",
}
"""By urgency, the most urgent first."""

_LEADS = {
    Action.FAILED: "Your message was not delivered to:",
    Action.DELAYED: "Your message has not been delivered yet. You need not send it again: it is being tried for"
    " some days, and you will be told if it cannot be delivered to:",
    Action.EXPANDED: "Your message was delivered to an address that sends it on to others:",
    Action.RELAYED: "Your message was handed on to a server that will not tell whether it arrives. It is for:",
    Action.DELIVERED: "Your message was delivered to:",
}
_WIDTH = 74
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class _Recipient(Protocol):
    """What is told of a recipient: `build.Reported`."""

    @property
    def address(self) -> str: ...
    @property
    def orcpt(self) -> str: ...
    @property
    def action(self) -> Action: ...
    @property
    def remote_mta(self) -> str: ...
    @property
    def diagnostic(self) -> str: ...
    @property
    def explanation(self) -> str: ...


def worst(recipients: Iterable[_Recipient]) -> Action:
    """The most urgent action of one recipient or more."""
    actions = {recipient.action for recipient in recipients}
    return next(action for action in SUBJECTS if action in actions)


def explain(hostname: str, recipients: Sequence[_Recipient]) -> str:
    """The text, with "\\n" at the end of each line; lines are short, unless a word is long."""
    paragraphs = [f"This is the mail system at {hostname}."]
    for action, lead in _LEADS.items():
        those = [recipient for recipient in recipients if recipient.action is action]
        if those:
            paragraphs.append(_fill(lead))
            paragraphs += [_paragraph(recipient) for recipient in those]
    if worst(recipients) is Action.FAILED:
        paragraphs.append(
            _fill("Below there are details for experts, and your message or its header.")
        )
    return "\n\n".join(paragraphs) + "\n"


def _paragraph(recipient: _Recipient) -> str:
    lines = [f"<{_CONTROL.sub('?', recipient.address)}>"]
    _, original = decode_address(recipient.orcpt)
    if original and original.lower() != recipient.address.lower():
        lines.append(f"    (you wrote to <{_CONTROL.sub('?', original)}>)")
    explanation = _CONTROL.sub(" ", recipient.explanation)
    lines += [indent(_fill(part), "    ") for part in explanation.split("\n") if part.strip()]
    if recipient.diagnostic:
        said_by = f"The server {recipient.remote_mta} said:" if recipient.remote_mta else "Reason:"
        diagnostic = _CONTROL.sub("?", recipient.diagnostic)[:2000].replace("\n", " ")
        lines.append(indent(_fill(f"{said_by} {diagnostic}"), "    "))
    return "\n".join(lines)


def _fill(text: str) -> str:
    return "\n".join(wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))

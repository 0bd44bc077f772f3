"""MAIL and RCPT as a client writes them, for what its peer offers, and what it says itself when it cannot
(RFC 5321 §4.1.1, RFC 1870, 3461, 6152, 6531)."""

import re

from pillarbox.core.address import Address, canonical_domain
from pillarbox.dsn.wishes import as_ascii
from pillarbox.smtp.client_events import Envelope, Recipient
from pillarbox.smtp.client_reply import Peer
from pillarbox.smtp.reply import Reply

CONNECTION_LOST = Reply(451, "4.4.2", "The connection was lost")
TIMED_OUT = Reply(451, "4.4.2", "The peer did not answer in time")
GARBLED = Reply(451, "4.5.0", "The peer sent something that is no SMTP reply")
UNEXPECTED = Reply(451, "4.5.0", "The peer sent a reply that does not belong there")
ABORTED = Reply(451, "4.3.0", "The attempt was stopped before the message was sent")
NO_TLS = Reply(451, "4.7.4", "The peer does not offer STARTTLS, and this route demands TLS")
NO_AUTH = Reply(451, "4.7.4", "The peer offers no AUTH mechanism that we have")
NO_TLS_FOR_AUTH = Reply(451, "4.7.4", "The password may be sent under TLS only")
TLS_INJECTION = Reply(451, "4.7.0", "Something was added behind the reply to STARTTLS")
TOO_BIG_FOR_PEER = Reply(552, "5.3.4", "The message is larger than the peer takes")
OVER_LIMIT = Reply(452, "4.5.3", "The peer wants fewer recipients in a transaction (LIMITS)")
NO_SMTPUTF8 = Reply(553, "5.6.7", "The peer does not take internationalized mail (SMTPUTF8)")
NO_UTF8_HEADER = Reply(554, "5.6.9", "The peer does not take header fields in UTF-8 (SMTPUTF8)")
NO_8BITMIME = Reply(554, "5.6.3", "The peer takes 7-bit messages only (no 8BITMIME)")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_envelope(envelope: Envelope, peer: Peer) -> Reply | None:
    """Why the peer cannot be given this message, None if it can."""
    limit = peer.size_limit_bytes
    if limit is not None and envelope.size_bytes > limit:
        return TOO_BIG_FOR_PEER  # RFC 1870 §5
    if not peer.offers("SMTPUTF8"):
        sender = envelope.reverse_path  # RFC 6531 §3.2
        if sender is not None and not sender.local.isascii():
            return NO_SMTPUTF8
        if envelope.utf8:
            return NO_UTF8_HEADER
    if envelope.eight_bit and not peer.offers("8BITMIME"):
        return NO_8BITMIME  # RFC 6152 §3
    return None


def check_recipient(recipient: Recipient, peer: Peer) -> Reply | None:
    """Why the peer cannot be given this recipient, None if it can."""
    if not recipient.address.local.isascii() and not peer.offers("SMTPUTF8"):
        return NO_SMTPUTF8
    return None


def mail_command(envelope: Envelope, peer: Peer) -> bytes:
    """Only parameters that the peer offered (RFC 5321 §2.2.1). Raises ValueError for control characters."""
    path = _path(envelope.reverse_path, peer) if envelope.reverse_path else ""
    parameters = []
    if peer.offers("SIZE"):
        parameters.append(f"SIZE={envelope.size_bytes}")
    if envelope.eight_bit:
        parameters.append("BODY=8BITMIME")
    if peer.offers("SMTPUTF8") and _needs_utf8(envelope):
        parameters.append("SMTPUTF8")
    if peer.offers("DSN"):
        if envelope.ret:
            parameters.append(f"RET={envelope.ret}")
        if envelope.envid:
            parameters.append(f"ENVID={envelope.envid}")
    return _line(f"MAIL FROM:<{path}>", parameters)


def rcpt_command(recipient: Recipient, peer: Peer) -> bytes:
    """NOTIFY and ORCPT go only to a peer that offers DSN; if it does not, the sender's wishes end here
    (RFC 3461 §5.2.2). Raises ValueError for control characters."""
    parameters = []
    if peer.offers("DSN"):
        if recipient.notify:
            parameters.append(f"NOTIFY={recipient.notify}")
        if recipient.orcpt:
            orcpt = recipient.orcpt
            parameters.append(f"ORCPT={orcpt if peer.offers('SMTPUTF8') else as_ascii(orcpt)}")
    return _line(f"RCPT TO:<{_path(recipient.address, peer)}>", parameters)


def _needs_utf8(envelope: Envelope) -> bool:
    """RFC 6531 §3.4: whether a header, a local part or an ORCPT is not ASCII. Domains never need it here."""
    sender = envelope.reverse_path
    return (
        envelope.utf8
        or (sender is not None and not sender.local.isascii())
        or any(
            not (recipient.address.local.isascii() and recipient.orcpt.isascii())
            for recipient in envelope.recipients
        )
    )


def _path(address: Address, peer: Peer) -> str:
    """A domain goes in A-labels, which every host takes (RFC 6531 §3.2), unless the local part needs UTF-8 anyway
    (§3.7)."""
    if address.domain.isascii() or not (address.local.isascii() or not peer.offers("SMTPUTF8")):
        return str(address)
    return str(Address(address.local, canonical_domain(address.domain)))


def _line(command: str, parameters: list[str]) -> bytes:
    line = " ".join([command, *parameters])
    if _CONTROL.search(line) or any(" " in parameter for parameter in parameters):
        raise ValueError("control character in an SMTP command, or a space in a parameter")
    return line.encode("utf-8") + b"\r\n"

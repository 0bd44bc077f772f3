"""Bounces and notices of delay: multipart/report with a text for people, one for programs, and the message or its
header (RFC 3464, RFC 6522; for internationalized addresses RFC 6533).

The envelope of a report has the null reverse-path, so that no report ever answers a report (RFC 3461 §6.1), and a
message that came with the null path gets none.
"""

import re
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pillarbox.core.dates import format_rfc5322_date
from pillarbox.dsn.text import SUBJECTS, explain, worst
from pillarbox.dsn.wishes import Action, decode_address, decode_xtext, wants
from pillarbox.mime.build import MAX_LINE, format_field
from pillarbox.mime.header import field_value, header_end, split_header

MAX_RETURNED = 256 * 1024
"""Octets of a message that RET=FULL returns; of a larger one only the header goes back."""
MAX_HEADER = 64 * 1024
"""Octets of a header block that go back: the lines that fit."""
MAX_DIAGNOSTIC = 4000
"""Characters of a reply that are shown."""

_UNPRINTABLE = re.compile(r"[^ -~]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WORD = re.compile(r"(?<! ) *[^ ]+")  # begins at the first space only: else many are quadratic


@dataclass(slots=True, frozen=True)
class Reported:
    """What happened to one recipient. Dates are packed (`core.dates`), 0 for none."""

    address: str
    """As in the envelope."""
    action: Action
    status: str
    """RFC 3463; "4.0.0" or "5.0.0" where nothing better is known (RFC 3461 §6.3 g)."""
    notify: str = ""
    orcpt: str = ""
    """NOTIFY and ORCPT as they came with the recipient, "" for none."""
    remote_mta: str = ""
    """The host that said `diagnostic`; "" if we said it ourselves."""
    diagnostic: str = ""
    """The SMTP reply with its codes, lines parted by "\\n"."""
    explanation: str = ""
    """Cause and remedy for people, one paragraph or more."""
    last_attempt: int = 0
    retry_until: int = 0


@dataclass(slots=True, frozen=True)
class Report:
    """One report about one message."""

    id: str
    """Unique; letters, digits, "-" and "." only."""
    hostname: str
    """Of the reporting MTA, fully qualified."""
    postmaster: str
    """The address in From (RFC 3464 §2)."""
    reverse_path: str
    """To whom the report goes; "" is the null path."""
    date: int
    """Packed (`core.dates`), like `arrival`."""
    recipients: Sequence[Reported]
    message: bytes
    """The message that is reported on, or its header block at least."""
    arrival: int = 0
    envid: str = ""
    ret: str = ""
    """ENVID and RET as they came with the message, "" for none."""


@dataclass(slots=True, frozen=True)
class Built:
    """To be sent from the null path to the report's `reverse_path`."""

    octets: bytes
    utf8: bool
    """It needs SMTPUTF8: the sender's address is in it."""


def build_report(report: Report) -> Built | None:
    """The report for the recipients whose NOTIFY asks for it; None if there are none, or nobody can be told."""
    wanted = [one for one in report.recipients if wants(one.notify, one.action)]
    if not report.reverse_path or not wanted:
        return None
    report = replace(report, recipients=wanted)
    parts = [_text_part(report), _status_part(report), _returned_part(report)]
    boundary = _boundary(report.id, parts)
    eight_bit = not parts[2].isascii()
    header = _header(report, boundary, eight_bit=eight_bit)
    delimiter = f"--{boundary}\r\n".encode("ascii")
    closing = f"--{boundary}--\r\n".encode("ascii")
    body = b"".join(delimiter + part + b"\r\n" for part in parts)
    return Built(header + b"\r\n" + body + closing, not report.reverse_path.isascii())


def _header(report: Report, boundary: str, *, eight_bit: bool) -> bytes:
    action = worst(report.recipients)
    fields = [
        b"Date: " + format_rfc5322_date(report.date) + b"\r\n",
        _raw_field("From", f"Mail Delivery System <{report.postmaster}>"),
        _raw_field("To", report.reverse_path),
        format_field("Subject", SUBJECTS[action]),
        format_field("Message-ID", f"<{report.id}@{report.hostname}>"),
    ]
    if original := _message_id(report.message):
        fields.append(format_field("In-Reply-To", original))  # RFC 3834 §3.1.5
        fields.append(format_field("References", original))
    fields.append(b"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")  # RFC 3834 §5
    fields.append(
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b' boundary="%b"\r\n' % boundary.encode("ascii")
    )
    if eight_bit:
        fields.append(b"Content-Transfer-Encoding: 8bit\r\n")
    return b"".join(fields)


def _message_id(message: bytes) -> str:
    """Of the original message, "" if it has none that can be repeated."""
    block = message[: min(header_end(message), MAX_HEADER)]
    for name, start, end in split_header(block):
        if name == b"message-id":
            value = field_value(block, start, end).decode("ascii", "replace")
            is_plain = value.isprintable() and value.isascii() and " " not in value
            return value if is_plain and len(value) <= 900 else ""
    return ""


def _boundary(seed: str, parts: list[bytes]) -> str:
    """RFC 2046 §5.1.1: not in any part."""
    boundary = f"report_{seed}"
    while any(boundary.encode("ascii") in part for part in parts):
        boundary += "_"
    return boundary


def _text_part(report: Report) -> bytes:
    text = explain(report.hostname, report.recipients).replace("\n", "\r\n")
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.encode("ascii")
    return (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + b2a_qp(text.encode("utf-8", "replace"))
    )


def _status_part(report: Report) -> bytes:
    """RFC 3464 §2.1, or message/global-delivery-status if there is an address that is not ASCII (RFC 6533 §4.1)."""
    fields = [_status_field("Reporting-MTA", f"dns; {report.hostname}")]
    if report.envid:
        fields.insert(0, _status_field("Original-Envelope-Id", decode_xtext(report.envid)))
    if report.arrival:
        fields.append(b"Arrival-Date: " + format_rfc5322_date(report.arrival) + b"\r\n")
    for recipient in report.recipients:
        fields.append(b"\r\n")
        fields += _recipient_fields(recipient)
    octets = b"".join(fields)
    if octets.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n" + octets
    return (
        b"Content-Type: message/global-delivery-status\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b2a_qp(octets)
    )


def _recipient_fields(recipient: Reported) -> list[bytes]:
    """In the order of RFC 3464 §2.3."""
    fields = []
    if recipient.orcpt:  # RFC 3461 §6.3 d
        kind, address = decode_address(recipient.orcpt)
        fields.append(_raw_field("Original-Recipient", f"{kind};{address}"))
    kind = "rfc822" if recipient.address.isascii() else "utf-8"
    fields.append(_raw_field("Final-Recipient", f"{kind};{recipient.address}"))
    fields.append(_status_field("Action", recipient.action.value))
    fields.append(_status_field("Status", recipient.status))
    if recipient.remote_mta:
        fields.append(_status_field("Remote-MTA", f"dns; {recipient.remote_mta}"))
    if recipient.diagnostic:
        diagnostic = recipient.diagnostic[:MAX_DIAGNOSTIC].replace("\n", " ")
        fields.append(_status_field("Diagnostic-Code", f"smtp; {diagnostic}"))
    if recipient.last_attempt:
        moment = format_rfc5322_date(recipient.last_attempt)
        fields.append(b"Last-Attempt-Date: " + moment + b"\r\n")
    if recipient.retry_until and recipient.action is Action.DELAYED:
        moment = format_rfc5322_date(recipient.retry_until)
        fields.append(b"Will-Retry-Until: " + moment + b"\r\n")
    return fields


def _raw_field(name: str, value: str) -> bytes:
    """Addresses go as they are, in UTF-8: the report says what the envelope said (RFC 3464 §2.3.2)."""
    return f"{name}: {_CONTROL.sub('?', value)}\r\n".encode("utf-8", "replace")


def _status_field(name: str, value: str) -> bytes:
    """ASCII, folded at spaces. Encoded words have no place here (RFC 3464 §2.1.1), so what is not ASCII becomes "?"."""
    lines, line = [], f"{name}:"
    for word in _WORD.findall(" " + _UNPRINTABLE.sub("?", value)):
        if len(line) + len(word) > MAX_LINE and line.strip():
            lines.append(line)
            line = ""
        line += word
    return "\r\n".join([*lines, line]).encode("ascii") + b"\r\n"


def _returned_part(report: Report) -> bytes:
    """The whole message only where the sender wants it and it failed for somebody (RFC 3461 §4.3)."""
    message = report.message
    end = header_end(message)
    failed = any(one.action is Action.FAILED for one in report.recipients)
    if report.ret.upper() == "FULL" and failed and len(message) <= MAX_RETURNED:
        return _returned_message(message, message[:end])
    header = message[:end].removesuffix(b"\r\n")
    if len(header) > MAX_HEADER:
        header = header[: header.rfind(b"\n", 0, MAX_HEADER) + 1]
    if header.isascii():
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + header
    kind = b"message/global-headers" if _is_utf8(header) else b"text/rfc822-headers"
    return _quoted_part(kind, header)


def _returned_message(message: bytes, header: bytes) -> bytes:
    if message.isascii():
        return b"Content-Type: message/rfc822\r\n\r\n" + message
    if not header.isascii() and _is_utf8(header):
        return _quoted_part(b"message/global", message)  # RFC 6532 §3.7 allows the encoding
    return b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + message


def _quoted_part(kind: bytes, octets: bytes) -> bytes:
    return (
        b"Content-Type: %b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" % kind
    ) + b2a_qp(octets)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

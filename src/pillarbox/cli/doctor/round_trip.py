"""A message from an account to itself: by submission, then read by IMAP and POP3, timed, and removed again.

The password goes only to a server that has the key of one of the configured certificates.
"""

import imaplib
import poplib
import re
import secrets
import smtplib
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from pillarbox.cli.doctor.case import WAIT_S, Case, in_thread, words_of
from pillarbox.cli.doctor.finding import Finding, Level, error, ok
from pillarbox.cli.doctor.listeners import reachable
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.secret import Secret

ALL_S = 12 * WAIT_S
LOOK_EVERY_S = 0.05
SUBJECT = "pillarbox doctor: a test that removes itself"
_NEWEST = 500
"""Of the messages by POP3, this many are looked at."""


async def check_round_trip(case: Case, account: str, password: Secret) -> list[Finding]:
    """A finding for each stage, up to the first that fails."""
    return (await travel(case, account, password)).findings


async def travel(case: Case, account: str, password: Secret, series: str = "") -> "Trip":
    """Make the trip. One of a series, whose Message-IDs begin with its name, also removes what trips before it left
    behind."""
    trip = Trip(case, account, password, series)
    try:
        await in_thread(trip.run, ALL_S)
    except TimeoutError:
        advice = "look at the server's log"
        found = f"not over within {ALL_S:g} s"
        trip.add(error("round trip", account, found, advice))
    return trip


class Trip:
    """In a thread."""

    def __init__(self, case: Case, account: str, password: Secret, series: str = "") -> None:
        self._case = case
        self._account = account
        self._password = password
        self._may_be_there = False
        self._series = f"<{series}-" if series else ""
        self._message_id = f"<{series or 'doctor'}-{secrets.token_hex(8)}@{case.host}>"
        self._found: list[Finding] = []
        self.times: dict[str, float] = {}
        """Seconds, of each stage that worked, in their order."""

    @property
    def findings(self) -> list[Finding]:
        """So far."""
        return list(self._found)

    @property
    def failure(self) -> Finding | None:
        """The first, if there is one."""
        return next((each for each in self._found if each.level is not Level.OK), None)

    def add(self, finding: Finding) -> None:
        self._found.append(finding)

    def run(self) -> None:
        if not self._case.chains:
            advice = "see the findings on certificates first: pillarbox doctor"
            self.add(error("round trip", self._account, "no certificate", advice))
            return
        if self._stage("submission", self._send) and self._stage("imap", self._find_by_imap):
            self._stage("pop3", self._find_by_pop3)
        if self._may_be_there:
            self._stage("removal", self._remove)

    def _stage(self, name: str, work: Callable[[], str]) -> bool:
        begun = time.monotonic()
        subject = f"{self._account} {name}"
        try:
            found = work()
        except Exception as failure:  # the libraries raise all sorts of them
            self.add(self._failed(subject, failure))
            return False
        if found:
            self.times[name] = time.monotonic() - begun
            self.add(ok("round trip", subject, f"{found} ({self.times[name] * 1000:.0f} ms)"))
        return True

    def _failed(self, subject: str, failure: Exception) -> Finding:
        said, advice = _said(failure), "look at the server's log at this moment"
        if isinstance(failure, smtplib.SMTPAuthenticationError):
            advice = (
                "give the password of the account, if it is not disabled: pillarbox account list"
            )
        elif said.startswith("552"):
            advice = f"make room: pillarbox account quota {self._account}"
        elif "[IN-USE]" in said:
            advice = "use an account that nobody reads by POP3"
        elif isinstance(failure, ConnectionRefusedError):
            advice = "start the server: pillarbox serve (or systemctl start pillarbox)"
        elif isinstance(failure, ssl.SSLCertVerificationError):
            advice = (
                "start this command again if the certificate was renewed, else look who listens"
            )
        text = "".join(filter(str.isprintable, said))[:160] or type(failure).__name__
        return error("round trip", subject, text, advice)

    def _send(self) -> str:
        message = EmailMessage()
        message["From"] = message["To"] = self._account
        message["Subject"] = SUBJECT
        message["Date"] = formatdate()
        message["Message-ID"] = self._message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("If you read this, its removal failed: delete it.\n")
        place = self._place("submissions", "submission")
        if place is None:
            raise OSError("neither submissions nor submission listens")
        implicit, host, port = place
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, self._case.host, timeout=WAIT_S, context=self._context()
            )
        else:
            client = smtplib.SMTP(host, port, self._case.host, timeout=WAIT_S)
        with client:
            if not implicit:
                client.starttls(context=self._context())
            client.ehlo_or_helo_if_needed()
            code, reply = client.docmd("AUTH", f"PLAIN {b64encode(self._plain()).decode()}")
            if code != 235:
                raise smtplib.SMTPAuthenticationError(code, reply)
            self._may_be_there = True  # whatever becomes of the reply
            client.send_message(message)
        return "taken"

    def _plain(self) -> bytes:
        """RFC 4616 §2: UTF-8, which Python's own logins do not send."""
        return f"\0{self._account}\0{self._password.reveal()}".encode()

    def _open_imap(self) -> imaplib.IMAP4 | None:
        place = self._place("imaps", "imap")
        if place is None:
            return None
        implicit, host, port = place
        if implicit:
            client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
                host, port, ssl_context=self._context(), timeout=WAIT_S
            )
        else:
            client = imaplib.IMAP4(host, port, timeout=WAIT_S)
            client.starttls(self._context())
        client.authenticate("PLAIN", lambda _challenge: self._plain())
        return client

    def _open_pop3(self) -> poplib.POP3 | None:
        place = self._place("pop3s", "pop3")
        if place is None:
            return None
        implicit, host, port = place
        if implicit:
            client: poplib.POP3 = poplib.POP3_SSL(
                host, port, timeout=WAIT_S, context=self._context()
            )
        else:
            client = poplib.POP3(host, port, timeout=WAIT_S)
            client.stls(self._context())
        client.user(self._account)
        client.pass_(self._password.reveal())
        return client

    def _find_by_imap(self) -> str:
        client = self._open_imap()
        if client is None:
            return ""
        with client:
            client.select("INBOX", readonly=True)
            deadline = time.monotonic() + WAIT_S
            while not self._uids(client):
                if time.monotonic() > deadline:
                    raise OSError(f"the message is not in INBOX after {WAIT_S:g} s")
                time.sleep(LOOK_EVERY_S)
                client.noop()
        return "found in INBOX"

    def _uids(self, client: imaplib.IMAP4, series: str = "") -> str:
        """Of the message, or of all of a series, as a set for commands; '' when there is none."""
        wanted = ["HEADER", "Message-ID", f'"{series or self._message_id}"']
        if series:
            wanted += ["SUBJECT", f'"{SUBJECT}"']  # nobody else's, whatever its Message-ID
        found = _answer(client.uid("SEARCH", *wanted))
        uids = (found[0] or b"").decode().split()
        if series and uids:
            uids = self._exact(client, uids)
        return ",".join(uids)

    def _exact(self, client: imaplib.IMAP4, uids: list[str]) -> list[str]:
        """Those that we made: a search finds texts also within longer ones."""
        fields = "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID SUBJECT)])"
        found = []
        for item in _answer(client.uid("FETCH", ",".join(uids), fields)):
            if isinstance(item, tuple):
                uid = re.search(rb"UID (\d+)", item[0])
                if uid and self._is_ours(item[1]):
                    found.append(uid[1].decode())
        return found

    def _is_ours(self, header: bytes) -> bool:
        """Whether it is the message of this trip, or of another one of its series."""
        message = message_from_bytes(header)
        message_id = str(message["Message-ID"] or "").strip()
        pattern = re.escape(self._series) + r"[0-9a-f]{1,16}@[^<>\s]+>"
        is_of_series = bool(self._series) and re.fullmatch(pattern, message_id) is not None
        return message_id == self._message_id or (is_of_series and message["Subject"] == SUBJECT)

    def _find_by_pop3(self) -> str:
        client = self._open_pop3()
        if client is None:
            return ""
        try:
            if not self._numbers(client)[0]:
                raise OSError("the message is not in the maildrop")
        finally:
            with suppress(OSError, poplib.error_proto):
                client.quit()
        return "found"

    def _numbers(self, client: poplib.POP3) -> tuple[int, list[int]]:
        """By POP3: the number of the message, 0 if it is not there, and of all of its series."""
        count, _ = client.stat()
        own, ours = 0, []
        for number in range(count, max(0, count - _NEWEST), -1):
            header = b"\r\n".join(client.top(number, 0)[1])
            if self._is_ours(header):
                ours.append(number)
                if self._message_id.encode() in header:
                    own = number
                    if not self._series:
                        break
        return own, ours

    def _remove(self) -> str:
        if (imap := self._open_imap()) is not None:
            removed = self._remove_by_imap(imap)
        elif (pop3 := self._open_pop3()) is not None:
            removed = self._remove_by_pop3(pop3)
        else:
            raise OSError("no IMAP, no POP3: the message stays")
        if not removed:
            raise OSError(f"the message {self._message_id} was not found, and may still come")
        return "the message is gone"

    def _remove_by_imap(self, client: imaplib.IMAP4) -> bool:
        with client:
            client.select("INBOX")
            is_there = bool(self._uids(client))
            uids = self._uids(client, self._series)
            if uids:
                client.uid("STORE", uids, "+FLAGS.SILENT", r"(\Deleted)")
                client.uid("EXPUNGE", uids)  # RFC 4315 §2.1: nothing else that is marked
                if self._uids(client):
                    raise OSError("the message is still there: delete it")
            return is_there

    def _remove_by_pop3(self, client: poplib.POP3) -> bool:
        """A message that has just come may need a moment, and the maildrop is as it was at the login."""
        deadline = time.monotonic() + WAIT_S
        own, ours = self._numbers(client)
        while not own and time.monotonic() < deadline:
            client.quit()
            time.sleep(LOOK_EVERY_S)
            again = self._open_pop3()
            assert again is not None
            client = again
            own, ours = self._numbers(client)
        for number in ours:
            client.dele(number)
        client.quit()
        return own > 0

    def _place(self, *services: str) -> tuple[bool, str, int] | None:
        """(TLS from the start, host, port) of the first of two services that listens."""
        for service in services:
            for address in getattr(self._case.config.listen, service):
                host, port = parse_endpoint(address)
                return service == services[0], reachable(host), port
        return None

    def _context(self) -> ssl.SSLContext:
        """Trusts the certificates of this server alone, whatever their names: we connect to its own addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        pem = "".join(
            chain[0].public_bytes(Encoding.PEM).decode() for chain in self._case.chains if chain
        )
        context.load_verify_locations(cadata=pem)
        return context


def _answer(answer: tuple[str, list[Any]]) -> list[Any]:
    """What imaplib gives behind an OK. Raises OSError."""
    status, data = answer
    if status != "OK":
        words = data[0] if data and isinstance(data[0], bytes) else b""
        raise OSError(f"{status} {words.decode('utf-8', 'replace')}")
    return data


def _said(failure: Exception) -> str:
    """The words of the server, or of the system."""
    code, words = 0, failure.args[0] if failure.args else ""
    if isinstance(failure, smtplib.SMTPRecipientsRefused):
        code, words = next(iter(failure.recipients.values()))
    elif isinstance(failure, smtplib.SMTPResponseException):
        code, words = failure.smtp_code, failure.smtp_error
    elif isinstance(failure, OSError) and not isinstance(failure, ssl.SSLError):
        words = words_of(failure)  # the number says nothing to people; that of TLS is another one
    elif not isinstance(words, bytes):
        words = str(failure)
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
    return f"{code} {text}" if code else text

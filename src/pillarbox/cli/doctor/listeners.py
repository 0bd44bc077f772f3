"""Whether each configured listener answers, and what TLS it shows: by connecting, from this machine.

Whether a firewall in between lets others through cannot be seen from here.
"""

import asyncio
import datetime
import re
import ssl
from contextlib import suppress

from cryptography import x509

from pillarbox.certs.present import words
from pillarbox.certs.report import listeners
from pillarbox.cli.doctor.case import WAIT_S, Case, words_of
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.core.duration import parse_duration
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.networks import parse_networks
from pillarbox.core.words import counted

_IMPLICIT = ("submissions", "imaps", "pop3s")  # RFC 8314 §3
_START = {"imap": b"A STARTTLS\r\n", "pop3": b"STLS\r\n"}
_MOST_LINES = 100
_CAPABILITIES = re.compile(r"\[CAPABILITY [^\]]*\] ?")

MOST_SHOWN = 60
"""Characters of what a server says."""
_RENEW = "look at it with: pillarbox tls status"


async def check_listeners(case: Case) -> list[Finding]:
    """Of each listener whether it greets, and what certificate it shows."""
    pairs = [each.split(" ", 1) for each in listeners(case.config)]
    if not any(service != "metrics" for service, _ in pairs):
        advice = "name addresses in [listen], as `pillarbox config example` shows"
        return [error("port", case.host, "no service listens anywhere", advice)]
    found = await asyncio.gather(*(_check_listener(case, *pair) for pair in pairs))
    return [finding for findings in found for finding in findings]


async def check_certificates(case: Case) -> list[Finding]:
    """What `pillarbox tls status` says of the files."""
    findings = []
    for entry in case.certificates:
        path = str(entry.paths[0])
        if entry.problems:
            is_early = entry.pair is not None and all("expires in" in it for it in entry.problems)
            make = warning if is_early else error
            findings.append(make("certificate", path, "; ".join(entry.problems), _RENEW))
        elif entry.notes:
            findings.append(warning("certificate", path, "; ".join(entry.notes), _RENEW))
        elif entry.pair is not None:
            names = ", ".join((*entry.pair.names, *entry.pair.addresses))
            findings.append(
                ok("certificate", path, f"{names}: {counted(entry.days or 0, 'day')} left")
            )
    if not findings:
        advice = "the first start of the server makes one; or set tls.certificate, tls.acme"
        findings.append(error("certificate", case.host, "there is none yet", advice))
    return findings


def reachable(host: str) -> str:
    """The address to connect to for one that is listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def _check_listener(case: Case, service: str, address: str) -> list[Finding]:
    subject = f"{service} {address}"
    host, port = parse_endpoint(address)
    if port == 0:
        advice = "name a port in [listen]"
        return [warning("port", subject, "the system chooses this port at each start", advice)]
    if reachable(host) in parse_networks(case.config.security.proxy_protocol_from):
        advice = "test it through the proxy"
        return [warning("port", subject, "it wants a PROXY header from this machine", advice)]
    advice = "is the server running, and with this configuration? pillarbox status"
    try:
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection(reachable(host), port)
    except TimeoutError:
        return [error("port", subject, f"no connection within {WAIT_S:g} s", advice)]
    except OSError as failure:
        return [error("port", subject, f"no connection: {words_of(failure)}", advice)]
    try:
        if service == "metrics":
            return [ok("port", subject, "takes connections")]
        return await _Talk(case, service, subject, reader, writer).findings()
    finally:
        writer.transport.abort()


class _Talk:
    """With one listener, once it is connected."""

    def __init__(
        self,
        case: Case,
        service: str,
        subject: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._case = case
        self._service = service
        self._subject = subject
        self._reader = reader
        self._writer = writer
        delay_s = parse_duration(case.config.smtp.greeting_delay) if service == "smtp" else 0
        self._wait_s = WAIT_S + delay_s

    async def findings(self) -> list[Finding]:
        implicit = self._service in _IMPLICIT
        advice = "another program may have this port: ss -ltnp"
        greeting = ""
        try:
            async with asyncio.timeout(self._wait_s):
                if not implicit:
                    greeting = await self._line()
                    if not greeting.startswith(("220", "* OK", "+OK")):
                        found = f"it greets with {_cut(greeting)!r}"
                        return [error("port", self._subject, found, advice)]
                    await self._ask_for_tls()
        except TimeoutError:
            found = f"connected, but silent for {self._wait_s:g} s"
            return [error("port", self._subject, found, advice)]
        except (OSError, ValueError, EOFError) as failure:
            return [error("port", self._subject, f"connected, then: {_reason(failure)}", advice)]
        port = ok("port", self._subject, _short(greeting) or "takes connections")
        others = [
            await self._named(entry.pair.names[0].replace("*", "any", 1), entry.notes)
            for entry in self._case.certificates[1:]
            if entry.pair is not None and entry.pair.names
        ]
        return [port, await self._handshake(), *others]

    async def _named(self, name: str, notes: tuple[str, ...]) -> Finding:
        """A further certificate, which clients get that ask for a name of it."""
        subject = f"{self._subject} {name}"
        why = await self._distrust(name)
        if not why:
            return ok("tls", subject, "trusted")
        if notes:
            return _of_a_house(subject, notes[0])
        return error("tls", subject, f"clients that ask for {name} do not trust it: {why}", _RENEW)

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line:
            raise EOFError("it closed the connection")
        return "".join(filter(str.isprintable, line.decode("latin-1")))

    async def _ask_for_tls(self) -> None:
        if self._service in _START:
            self._writer.write(_START[self._service])
            answer = await self._line()
            if not answer.startswith(("A OK", "+OK")):
                raise ValueError(f"no TLS: {_cut(answer)}")
            return
        hello = "LHLO" if self._service == "lmtp" else "EHLO"
        self._writer.write(f"{hello} {self._case.host}\r\n".encode())
        for _ in range(_MOST_LINES):
            if (await self._line())[3:4] != "-":
                break
        self._writer.write(b"STARTTLS\r\n")
        answer = await self._line()
        if not answer.startswith("220"):
            raise ValueError(f"no TLS: {_cut(answer)}")

    async def _handshake(self) -> Finding:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # what is shown is looked at here, whatever it is
        try:
            async with asyncio.timeout(self._wait_s):
                await self._writer.start_tls(context, server_hostname=self._case.host)
        except TimeoutError:
            found = f"the handshake takes more than {self._wait_s:g} s"
            return error("tls", self._subject, found, "look at the server's log")
        except (OSError, EOFError) as failure:
            found = f"the handshake fails: {_reason(failure)}"
            return error("tls", self._subject, found, _RENEW)
        shown = self._writer.get_extra_info("ssl_object")
        octets = shown.getpeercert(binary_form=True)
        if octets is None:
            return error("tls", self._subject, "it shows no certificate", _RENEW)
        return await self._judge(x509.load_der_x509_certificate(octets), shown.version())

    async def _judge(self, leaf: x509.Certificate, version: str) -> Finding:
        now = datetime.datetime.fromtimestamp(self._case.now, datetime.UTC)
        if leaf.not_valid_after_utc <= now:
            found = f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
            return error("tls", self._subject, found, _RENEW)
        if self._case.chains and leaf not in [chain[0] for chain in self._case.chains if chain]:
            advice = "see the log for why the new files are not in use; they are looked at each 5 s"
            return error(
                "tls", self._subject, "it shows another certificate than the files", advice
            )
        why = await self._distrust(self._case.host)
        if not why:
            return ok("tls", self._subject, f"{version}, {self._case.host}, trusted")
        private = self._case.config.data_path / "tls" / "ca.pem"
        with suppress(OSError, ValueError):
            if not await self._distrust(self._case.host, str(private)):
                advice = "get one that all trust: tls.acme = true, or tls.certificate"
                found = f"{version}, by the private CA, which only your own clients trust"
                return warning("tls", self._subject, found, advice)
        if notes := self._notes_on(leaf):
            return _of_a_house(self._subject, f"{notes[0]} ({version})")
        advice = (
            "get a certificate for the hostname, with its chain in the file: pillarbox tls status"
        )
        return error("tls", self._subject, f"clients do not trust it: {why}", advice)

    def _notes_on(self, leaf: x509.Certificate) -> tuple[str, ...]:
        """What may be meant so, where there is no fault."""
        usable = [entry for entry in self._case.certificates if entry.pair is not None]
        for entry, chain in zip(usable, self._case.chains, strict=True):
            if chain and chain[0] == leaf:
                return entry.notes
        return ()

    async def _distrust(self, name: str, ca_file: str | None = None) -> str:
        """Why clients that ask for a name and trust a CA (None: those of this system) refuse what another connection
        shows; '' if they do not."""
        host, port = parse_endpoint(self._subject.split(" ")[1])
        context = ssl.create_default_context(cafile=ca_file)
        try:
            async with asyncio.timeout(self._wait_s):
                implicit = self._service in _IMPLICIT
                reader, writer = await asyncio.open_connection(reachable(host), port)
                try:
                    again = _Talk(self._case, self._service, self._subject, reader, writer)
                    if not implicit:
                        await again._line()
                        await again._ask_for_tls()
                    await writer.start_tls(context, server_hostname=name)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return "no answer in time"
        except (OSError, ValueError, EOFError) as failure:
            return _reason(failure)
        return ""


def _of_a_house(subject: str, note: str) -> Finding:
    """A certificate that this system does not trust; as `tls status` judges it."""
    advice = "fine where all clients trust its CA; else see: pillarbox tls status"
    return warning("tls", subject, f"not trusted by this system: {note}", advice)


def _short(greeting: str) -> str:
    """Without IMAP's capabilities (RFC 9051 §7.1), which are as long as they are dull."""
    return _cut(_CAPABILITIES.sub("", greeting))


def _cut(line: str) -> str:
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]}..."


def _reason(failure: Exception) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return failure.verify_message
    if isinstance(failure, ssl.SSLError):
        return words(failure)
    return words_of(failure) if isinstance(failure, OSError) else str(failure)

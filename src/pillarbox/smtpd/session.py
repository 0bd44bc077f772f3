"""One SMTP connection: what the engine asks, answered from directory, authentication and delivery.

Local recipients are checked at RCPT and their mail is stored before the 250 (RFC 5321 §4.2.5). Whoever logged in may
send as the addresses that lead to the account, and gets headers and line ends mended (RFC 6409 §8); strangers
may send to local addresses only.
"""

import asyncio
import logging
import time
from contextlib import suppress

from pillarbox.auth.exchange import Exchange, Outcome
from pillarbox.auth.peer import Denied, Peer, peer_of
from pillarbox.core.address import canonical_domain
from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.core.ids import format_queue_id
from pillarbox.core.networks import network_of
from pillarbox.core.said import ADDRESS, COMMAND, Said, SaidAddresses
from pillarbox.core.tally import result_of
from pillarbox.delivery.deliver import Delivery
from pillarbox.delivery.quota import are_full
from pillarbox.delivery.route import NO_DOMAINS, Destination, owns, resolve
from pillarbox.net.connection import Connection
from pillarbox.sasl.exchange import Challenge
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.smtp.events import (
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    DataStart,
    Delay,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    Xclient,
)
from pillarbox.smtp.reply import Reply, bad_syntax, format_reply
from pillarbox.smtp.server import SmtpServer
from pillarbox.smtpd.acceptance import Accepted, make_durable
from pillarbox.smtpd.context import SUBMISSION, SmtpContext, command_of
from pillarbox.smtpd.end_of_data import prepare_whole
from pillarbox.smtpd.message import Additions
from pillarbox.smtpd.received import Origin, format_date, format_origin, format_received
from pillarbox.smtpd.spoken_for import SpokenFor
from pillarbox.smtpd.told import Verdict, tell_accepted, tell_verdict, why_refused
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.directory import Account
from pillarbox.store.lately import NO_ROOM
from pillarbox.store.spool import Spool

MOST_LOGIN_FAILURES = 3
"""On one connection."""
MOST_TARGETS = 2000
"""Copies of one message."""

TURNED_AWAY = format_reply(replies.TOO_MANY_CONNECTIONS)
"""For `net.service.Service`."""

TOO_MANY_LOGIN_FAILURES = Reply(
    421, "4.7.0", "Too many failed logins, closing transmission channel"
)
NULL_MX = Reply(550, "5.7.27", "The sender's domain takes no mail (null MX), so it sends none")
TOO_FAST = Reply(450, "4.7.1", "Too many messages in a minute; try again later")
ACCOUNT_CHANGED = Reply(421, "4.7.0", "The account was changed; log in again")

log = logging.getLogger("pillarbox.smtpd")

_REFUSED = {
    "command": "command=<%s>",
    "sender": "sender=<%s>",
    "recipient": "recipient=<%s>",
    "message": "message from=<%s>",
}
"""For the log."""
_OF_MAIL = ("MAIL", "RCPT", "DATA", "BDAT", "AUTH")
"""Commands whose refusal by the engine is logged; strangers send all sorts of others."""


class SmtpSession:
    """A `net.connection.Session` for the services of `context.SERVICES`."""

    def __init__(self, connection: Connection, context: SmtpContext) -> None:
        service = connection.service
        self.engine = SmtpServer(
            context.options[service.name],
            tls=service.implicit_tls,
            xclient=connection.peer[0] in context.xclient_from,
        )
        self.engine.on_refused = self._tell_of_engine
        self._is_lmtp = service.name == "lmtp"
        self._connection = connection
        self._context = context
        self._directory = context.store.directory
        self._transaction: Transaction | None = None
        self._hello = Hello(False, "")
        self._origin: bytes | None = None
        self._account: Account | None = None
        self._exchange: Exchange | None = None
        self._login_failures = 0
        self._greeting: asyncio.TimerHandle | None = None
        self._spoken_for = SpokenFor()
        self._is_trusted = connection.peer[0] in context.trusted

    # What the driver calls

    def opened(self) -> None:
        if self._is_stranger and not self._context.rates.connections.take(
            network_of(self._connection.peer[0]), time.monotonic()
        ):
            self._log("too many connections in a minute")
            most = self._context.rates.connections.per_minute
            why = f"over {most} connections a minute from {network_of(self._connection.peer[0])}"
            self._tell("connection", "", replies.TOO_MANY_CONNECTIONS, why)
            self.engine.send(replies.TOO_MANY_CONNECTIONS)
            return
        delay_s = self._context.greeting_delay_s
        if delay_s and self._is_stranger:
            loop = asyncio.get_running_loop()
            self._greeting = loop.call_later(delay_s, self._greet_patient)
        else:
            self.engine.send(self._greet())

    def _greet(self) -> Reply:
        return replies.greeting(self._context.hostname, lmtp=self._is_lmtp)

    def _greet_patient(self) -> None:
        """Programs that only want to get rid of their mail do not wait for a greeting (RFC 5321 §4.3.1)."""
        self._greeting = None
        if self.engine.closing:
            return
        if self.engine.has_input:
            self._log("spoke before the greeting")
            self._tell("connection", "", replies.SPOKE_EARLY, "it did not wait for the greeting")
            self.engine.refuse(replies.SPOKE_EARLY)
        else:
            self.engine.send(self._greet())
        self._connection.wake()

    def secured(self) -> None:
        """What the client may do now, it learns from EHLO."""

    def stage(self) -> str:
        return self.engine.stage

    async def handle(self, event: Event) -> None:
        try:
            match event:
                case BodyChunk():
                    if self._take(event.data):
                        await self._flush()
                case Mail():
                    await self._mail(event)
                case Rcpt():
                    await self._rcpt(event)
                case DataStart():
                    self._data_start()
                case BodyEnd():
                    await self._body_end(event)
                case Hello():
                    self._end_transaction()
                    self._hello = self._spoken_for.hello(event)
                    self._connection.hello = self._hello.domain
                    self._origin = None
                    # Port 25 offers logins in a laboratory only, and there no others than PLAIN and LOGIN.
                    if self._connection.service.name in SUBMISSION:
                        self.engine.mechanisms = self._context.authenticator.mechanisms(
                            self._peer()
                        )
                    self.engine.send(self.engine.hello_reply())
                case Reset() | Quit():
                    self._end_transaction()
                case Delay():
                    await asyncio.sleep(event.seconds)
                    self.engine.end_delay()
                case Xclient():
                    self._speak_for(event)
                case Auth():
                    self._exchange = Exchange(
                        self._context.authenticator, event.mechanism, self._peer()
                    )
                    self._authenticated(await self._exchange.start(event.initial))
                case AuthResponse():
                    assert self._exchange is not None
                    self._authenticated(await self._exchange.respond(event.data))
        except Unavailable as failure:
            is_login = isinstance(event, Auth | AuthResponse)
            what = command_of(event) or ("AUTH" if is_login else "DATA")
            self._log("%s failed for now: %s", what, failure.text)
            self._tell_failed(event, _temporary(event, failure), failure.text)
            self.engine.send(_temporary(event, failure))

    def failed(self, event: Event) -> None:
        self._tell_failed(event, replies.LOCAL_ERROR, "a bug: the log has it")
        if isinstance(event, BodyChunk):
            self._refuse_message(replies.LOCAL_ERROR)
            return
        with suppress(RuntimeError):  # it was answered before it failed
            self.engine.send(_temporary(event, None))

    def stop(self) -> None:
        self.engine.shut_down()

    def closed(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
        self.engine.on_refused = None  # whoever refers to us keeps us in memory
        transaction = self._transaction
        if transaction is not None and transaction.recipients:
            what = "the connection ended before the message was whole"
            self._tell("message", "", Reply(0, "", what), "")
        self._end_transaction()

    def _speak_for(self, event: Xclient) -> None:
        """Who may do so is known by the connection's own address, for good (Postfix's XCLIENT_README)."""
        self._end_transaction()
        try:
            self._spoken_for = spoken = self._spoken_for.changed(event.attributes)
        except ValueError as error:
            self.engine.send(bad_syntax(str(error)))
            return
        connection = self._connection
        self._log("speaks for %s", Said(str(event.attributes)))
        connection.proxy = connection.proxy or connection.peer[0]
        connection.peer = spoken.client or connection.peer
        connection.local = spoken.server or connection.local
        self._is_trusted = connection.peer[0] in self._context.trusted
        login = event.attributes.get("LOGIN")
        account = self._directory.account_for_login(login) if login else None
        if login is not None:
            self._account = account
            self.engine.authenticated = account is not None and account.enabled
        self._origin = None
        self.engine.send(self._greet())

    # Mail transactions

    @property
    def _submitter(self) -> Account | None:
        """Who logged in. STARTTLS makes the engine forget it (RFC 3207 §4.2)."""
        return self._account if self.engine.authenticated else None

    @property
    def _is_ours(self) -> bool:
        """Whether the client is a user, or a host that is trusted like one."""
        if self._is_lmtp:
            return False  # for accounts here only
        return self._submitter is not None or self._is_trusted

    @property
    def _is_stranger(self) -> bool:
        return self._connection.service.name == "smtp" and not self._is_ours

    def _is_too_fast(self) -> bool:
        """Whether the client has sent as many messages as it may for now."""
        rates, submitter = self._context.rates, self._submitter
        if submitter is not None:
            if rates.account_messages.per_minute:
                return not rates.account_messages.take(str(submitter.id), time.monotonic())
        elif rates.messages.per_minute and self._is_stranger:
            client = network_of(self._connection.peer[0])
            return not rates.messages.take(client, time.monotonic())
        return False

    def _may_relay(self, domain: str) -> bool:
        """Whether the client may send to a domain that is not ours."""
        if self._is_ours and self._context.may_send_on(domain):
            return True
        return not self._is_lmtp and self._context.takes_for(domain)

    async def _mail(self, event: Mail) -> None:
        self._end_transaction()
        path = event.reverse_path
        submitter = self._submitter
        if submitter is not None:
            if self._was_changed(submitter):
                self._refuse("sender", str(path or ""), ACCOUNT_CHANGED)
                return
            if path is not None and not self._is_own(submitter, f"{path.local}@{path.domain}"):
                why = f"it does not lead to {submitter.address}, and is no identity of it"
                self._refuse("sender", str(path), replies.SENDER_NOT_YOURS, why)
                return
        if self._is_too_fast():
            self._refuse("sender", str(path or ""), TOO_FAST, "messages_per_minute")
            return
        if path is not None and self._is_stranger and await self._cannot_be_answered(path.domain):
            why = f"the MX record of {path.domain} is null"
            self._refuse("sender", str(path), NULL_MX, why)  # RFC 7505 §4.2
            return
        self._transaction = Transaction(event, began=self._context.recorder.now())
        self.engine.send(replies.SENDER_OK)

    async def _cannot_be_answered(self, domain: str) -> bool:
        """Whether a sender's domain says that it takes no mail."""
        if domain.startswith("[") or self._context.sender_domains is None:
            return False
        try:
            canonical = canonical_domain(domain)
        except ValueError:
            return False
        if self._directory.is_local(canonical):
            return False
        return await self._context.sender_domains.takes_no_mail(canonical)

    def _was_changed(self, submitter: Account) -> bool:
        """Whether the account is not what it was at the login."""
        now = self._directory.account_by_id(submitter.id)
        return now is None or not now.enabled or now.version != submitter.version

    def _is_own(self, submitter: Account, address: str) -> bool:
        return owns(self._directory, submitter, address)

    async def _rcpt(self, event: Rcpt) -> None:
        reply, why = replies.LOCAL_ERROR, ""
        try:
            reply, why = await self._recipient(event)
        finally:
            self._context.tally.recipients[result_of(reply.code)] += 1
        if reply.positive:
            self.engine.send(reply)
        else:
            self._refuse("recipient", event.raw, reply, why)

    async def _recipient(self, event: Rcpt) -> tuple[Reply, str]:
        """The reply, and why it refuses."""
        transaction = self._transaction
        assert transaction is not None
        found = resolve(
            self._directory,
            event.forward_path,
            self._context.hostname,
            relay=self._may_relay(event.forward_path.domain),
        )
        if isinstance(found, Reply):
            return found, self._why_not(event, found)
        known = transaction.copies
        if known and known + len(found.targets) + len(found.elsewhere) > MOST_TARGETS:
            return replies.TOO_MANY_RECIPIENTS, f"over {MOST_TARGETS} copies"
        if self._directory.quotas.exist() and await self._is_full(transaction, found):
            why = f"no room for {transaction.mail.size_bytes or 0} octets within its quota"
            return replies.MAILBOX_FULL, why
        transaction.add(event, found)
        return replies.RECIPIENT_OK, ""

    async def _is_full(self, transaction: Transaction, found: Destination) -> bool:
        """Whether no mailbox behind a recipient has room for a message of the declared size, if there is one."""
        if found.elsewhere:
            return False
        accounts = [target.account for target in found.targets]
        return await are_full(self._context.store, accounts, transaction.mail.size_bytes or 0)

    def _refuse(self, what: str, address: str, reply: Reply, why: str = "") -> None:
        """`what` is "sender", "recipient" or "message"; the address is what was refused, or the message's sender."""
        self._log_refused(what, Said(address, ADDRESS), reply)
        self._tell(what, address, reply, why)
        self.engine.send(reply)

    def _log_refused(self, what: str, said: Said, reply: Reply) -> None:
        """`what` is one of _REFUSED."""
        values: list[object] = [said]
        text = f"refused {_REFUSED[what]}"
        if (submitter := self._submitter) is not None:
            text += " user=%s"
            values.append(Said(submitter.address))
        self._log(text + " code=%d: %s", *values, reply.code, reply.text)

    def _why_not(self, event: Rcpt, reply: Reply) -> str:
        """What a recipient was refused by."""
        domain = event.forward_path.domain
        if reply == replies.RELAY_DENIED:
            who = "LMTP is for accounts here only" if self._is_lmtp else "nobody is logged in"
            trusted = "" if self._is_lmtp else f", {self._connection.peer[0]} is not trusted"
            return f"{domain} is no domain of ours, {who}{trusted}"
        if reply == NO_DOMAINS:
            return f"{domain} is no domain of ours, for there is none: see pillarbox doctor"
        if reply == replies.MAILBOX_UNKNOWN:
            return f"{domain} has no account, alias or catch-all for it"
        return ""

    # The trace

    def _tell(self, what: str, address: str, reply: Reply, why: str) -> None:
        if self._context.recorder.is_on:
            connection = self._connection.introduce()
            verdict = Verdict(what, address, reply, why)
            tell_verdict(self._context.recorder, connection, self._transaction, verdict)

    def _tell_of_engine(self, command: str, reply: Reply) -> None:
        """What the engine refused by itself."""
        if command[:4].upper() in _OF_MAIL:
            self._log_refused("command", Said(command, COMMAND), reply)
        self._tell("command", "", reply, command)

    def _tell_failed(self, event: Event, reply: Reply, why: str) -> None:
        match event:
            case Mail():
                self._tell("sender", str(event.reverse_path or ""), reply, why)
            case Rcpt():
                self._tell("recipient", event.raw, reply, why)
            case DataStart() | BodyChunk():
                self._tell("message", "", reply, why)

    # Message data

    def _data_start(self) -> None:
        transaction = self._transaction
        assert transaction is not None
        transaction.spool = Spool(self._context.spool_room)
        if self._is_ours and not transaction.is_binary:
            transaction.normalizer = LineEndNormalizer()
        self.engine.send(replies.START_MAIL_INPUT)

    def _take(self, chunk: bytes) -> bool:
        """True: what came must go to the disk before more is taken."""
        transaction = self._transaction
        if transaction is None or transaction.spool is None:
            return False  # refused already
        if transaction.normalizer is not None and not self.engine.is_mail_data_clean:
            # Chunks never cut a CRLF, so until now there was nothing to mend.
            chunk = transaction.normalizer.feed(chunk)
        return transaction.spool.write(chunk)

    async def _flush(self) -> None:
        transaction = self._transaction
        assert transaction is not None
        assert transaction.spool is not None
        try:
            await transaction.spool.flush()
        except OSError as error:
            self._log("the message cannot be spooled: %s", error)
            self._refuse_message(_of_disk(error))

    def _refuse_message(self, reply: Reply) -> None:
        """At its end, and let go of what came of it."""
        transaction = self._transaction
        if transaction is not None:
            transaction.problem = reply
            transaction.close()

    def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.close()

    async def _body_end(self, event: BodyEnd) -> None:
        transaction, tally = self._transaction, self._context.tally
        assert transaction is not None
        began = time.monotonic()
        result = "deferred"
        try:
            reply = await self._accept(transaction, event)
            result = result_of(reply.code)
            if not reply.positive:
                why = why_refused(reply, event.size_bytes, self._context.max_message_size)
                self._refuse("message", transaction.sender, reply, why)
                return
        except Exception as error:  # afterwards nobody knows what message it was
            failure = error if isinstance(error, Unavailable) else None
            why = failure.text if failure is not None else "a bug: the log has it"
            self._tell("message", "", _temporary(event, failure), why)
            raise
        finally:
            tally.messages[self._connection.service.name, result] += 1
            self._end_transaction()
        tally.deliveries.observe(time.monotonic() - began)
        self.engine.send(reply)

    async def _accept(self, transaction: Transaction, event: BodyEnd) -> Reply:
        """Everything between the end of the data and its reply."""
        if event.too_big:
            return replies.TOO_BIG
        if transaction.problem is not None:
            return transaction.problem
        if event.bare_cr_or_lf and transaction.normalizer is None and not transaction.is_binary:
            return replies.BARE_CR_OR_LF_IN_DATA  # RFC 5321 §2.3.8
        context = self._context
        now = context.clock()
        date = pack_date(int(now))
        queue_id = format_queue_id(int(now * 1_000_000), context.entropy())
        additions = None
        if self._is_ours:
            message_id = f"<{queue_id}@{context.hostname}>".encode()
            additions = Additions(format_date(date), message_id)
        submitter = self._submitter
        try:
            prepared = await prepare_whole(
                context, transaction, additions, checks_authors=submitter is not None
            )
        except OSError as error:
            self._log("the message cannot be spooled: %s", error)
            return _of_disk(error)
        if isinstance(prepared, Reply):
            return prepared
        transaction.content = prepared.content
        if submitter is not None:
            if self._was_changed(submitter):
                return ACCOUNT_CHANGED
            for author in prepared.authors:
                if not self._is_own(submitter, author):
                    return replies.SENDER_NOT_YOURS
        size = len(prepared.content.octets)
        recipients = transaction.recipients
        recipient = recipients[0] if len(recipients) == 1 else ""
        origin = self._received_from(utf8=transaction.is_utf8)
        received = format_received(origin, queue_id, recipient, date)
        sender = transaction.sender
        targets = list(transaction.targets.values())
        envid = transaction.mail.parameters.get("ENVID", "")
        delivery = Delivery(
            queue_id,
            sender,
            received,
            date,
            prepared.content,
            targets,
            envid,
            transaction.wishes,
        )
        accepted = Accepted(delivery, transaction, submitter, own=self._is_ours)
        if self._directory.quotas.exist() and targets and not transaction.elsewhere:
            accounts = [target.account for target in targets]
            if await are_full(context.store, accounts, size):
                return replies.MAILBOX_FULL
        pending = await make_durable(context, accepted)
        context.tally.message_octets[self._connection.service.name] += size
        log.info(
            "id=%s from=<%s> to=%s recipients=%d copies=%d pending=%d queued=%d size=%d"
            " client=%s connection=%s user=%s",
            queue_id,
            Said(sender, ADDRESS),
            SaidAddresses(recipients),
            len(recipients),
            len(targets),
            len(pending),
            len(transaction.elsewhere),
            size,
            self._connection.peer[0],
            self._connection.id,
            submitter.address if submitter is not None else "-",
        )
        if context.recorder.is_on:
            tell_accepted(
                context.recorder,
                transaction,
                prepared.content,
                connection=self._connection.introduce(),
                queue_id=queue_id,
                sender=sender,
                user=submitter.address if submitter is not None else "",
                pending=pending,
                came_octets=event.size_bytes,
            )
        return replies.queued(queue_id)

    def _received_from(self, *, utf8: bool) -> bytes:
        """The beginning of Received, made once for all messages until EHLO or AUTH change it."""
        if self._origin is None or utf8:
            connection = self._connection
            submitter = self._submitter
            origin = Origin(
                self._hello.domain,
                self._hello.extended,
                connection.peer[0] if submitter is None else "",
                f"{connection.channel.tls_version} {connection.channel.tls_cipher}"
                if connection.channel.is_tls
                else "",
                submitter is not None,
                utf8,
                self._is_lmtp,
            )
            if utf8:
                return format_origin(origin, self._context.hostname)
            self._origin = format_origin(origin, self._context.hostname)
        return self._origin

    # Authentication

    def _peer(self) -> Peer:
        return peer_of(self._connection, "smtp")

    def _authenticated(self, outcome: Outcome) -> None:
        """One step of an exchange (RFC 4954 §4)."""
        if isinstance(outcome, Challenge):
            self.engine.send_challenge(outcome.data)
            return
        self._exchange = None
        if isinstance(outcome, Denied):
            if outcome.is_syntax:
                self.engine.send(Reply(501, "5.5.2", outcome.text))
                return
            self._login_failures += 1
            is_last = self._login_failures >= MOST_LOGIN_FAILURES
            self.engine.send(TOO_MANY_LOGIN_FAILURES if is_last else replies.AUTHENTICATION_FAILED)
            return
        self._account = outcome.account
        self._connection.account = outcome.account.id
        self._connection.supporter = outcome.supporter.id if outcome.supporter else 0
        self._origin = None
        self.engine.send(replies.AUTHENTICATED)

    def _log(self, text: str, *values: object) -> None:
        log.info("%s %s: " + text, self._connection.id, self._connection.peer[0], *values)


def _of_disk(error: OSError) -> Reply:
    """What answers a message that cannot be written to the disk."""
    return replies.STORAGE_FULL if error.errno in NO_ROOM else replies.LOCAL_ERROR


def _temporary(event: Event, failure: Unavailable | None) -> Reply:
    """What answers an event that could not be handled now."""
    if isinstance(event, Auth | AuthResponse):
        return replies.AUTHENTICATION_UNAVAILABLE
    return replies.STORAGE_FULL if isinstance(failure, DiskFull) else replies.LOCAL_ERROR

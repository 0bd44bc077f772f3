"""One SMTP connection: what the engine asks, answered from directory, authentication and delivery.

Local recipients are checked at RCPT and their mail is stored before the 250 (RFC 5321 §4.2.5). Whoever logged in may
send as the addresses that lead to the account, and gets headers and line ends mended (RFC 6409 §8); strangers
may send to local addresses only.
"""

import logging
from contextlib import suppress

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import DiskFull, Unavailable
from pillarbox.core.ids import format_queue_id
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.deliver import Delivery, Wished, deliver
from pillarbox.delivery.route import owns, resolve
from pillarbox.net.connection import Connection
from pillarbox.queue.notice import About
from pillarbox.sasl.exchange import Challenge, Credentials, Mechanism, SaslError, Step
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.smtp.events import (
    Auth,
    AuthResponse,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
)
from pillarbox.smtp.reply import Reply, format_reply
from pillarbox.smtp.server import SmtpServer
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.message import Additions, Prepared, prepare
from pillarbox.smtpd.received import Origin, format_date, format_origin, format_received
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.content import LARGEST_INLINE
from pillarbox.store.directory import Account
from pillarbox.store.outgoing import OutgoingMessage
from pillarbox.store.spool import Spool

MOST_LOGIN_FAILURES = 3
"""On one connection."""
MOST_TARGETS = 2000
"""Copies of one message."""

TURNED_AWAY = format_reply(replies.TOO_MANY_CONNECTIONS)
"""For `net.connection.Service`."""

TOO_MANY_LOGIN_FAILURES = Reply(
    421, "4.7.0", "Too many failed logins, closing transmission channel"
)
ACCOUNT_CHANGED = Reply(421, "4.7.0", "The account was changed; log in again")

log = logging.getLogger("pillarbox.smtpd")


class SmtpSession:
    """A `net.connection.Session` for the services "smtp", "submission" and "submissions"."""

    def __init__(self, connection: Connection, context: SmtpContext) -> None:
        service = connection.service
        self.engine = SmtpServer(context.options[service.name], tls=service.implicit_tls)
        self._connection = connection
        self._context = context
        self._directory = context.store.directory
        self._transaction: Transaction | None = None
        self._hello = Hello(False, "")
        self._origin: bytes | None = None
        self._account: Account | None = None
        self._mechanism: Mechanism | None = None
        self._login_failures = 0

    # What the driver calls

    def opened(self) -> None:
        self.engine.send(replies.greeting(self._context.hostname))

    async def handle(self, event: Event) -> None:
        try:
            match event:
                case BodyChunk():
                    if self._take(event.data):
                        await self._flush()
                case Mail():
                    self._mail(event)
                case Rcpt():
                    self._rcpt(event)
                case DataStart():
                    self._data_start()
                case BodyEnd():
                    await self._body_end(event)
                case Hello():
                    self._end_transaction()
                    self._hello = event
                    self._origin = None
                    self.engine.send(self.engine.hello_reply())
                case Reset() | Quit():
                    self._end_transaction()
                case Auth():
                    self._mechanism = MECHANISMS[event.mechanism]()
                    await self._authenticate(self._mechanism.start(event.initial))
                case AuthResponse():
                    assert self._mechanism is not None
                    await self._authenticate(self._mechanism.respond(event.data))
        except Unavailable as failure:
            self._log("temporary failure at %s: %s", type(event).__name__, failure.text)
            self.engine.send(_temporary(event, failure))

    def failed(self, event: Event) -> None:
        if isinstance(event, BodyChunk):
            self._refuse_message(replies.LOCAL_ERROR)
            return
        with suppress(RuntimeError):  # it was answered before it failed
            self.engine.send(_temporary(event, None))

    def stop(self) -> None:
        self.engine.shut_down()

    def closed(self) -> None:
        self._end_transaction()

    # Mail transactions

    @property
    def _submitter(self) -> Account | None:
        """Who logged in. STARTTLS makes the engine forget it (RFC 3207 §4.2)."""
        return self._account if self.engine.authenticated else None

    @property
    def _is_ours(self) -> bool:
        """Whether the client is a user, or a host that is trusted like one."""
        return self._submitter is not None or self._connection.peer[0] in self._context.trusted

    def _mail(self, event: Mail) -> None:
        self._end_transaction()
        path = event.reverse_path
        submitter = self._submitter
        if submitter is not None:
            if self._was_changed(submitter):
                self.engine.send(ACCOUNT_CHANGED)
                return
            if path is not None and not self._is_own(submitter, f"{path.local}@{path.domain}"):
                self._refuse(f"sender <{path}>", replies.SENDER_NOT_YOURS)
                return
        self._transaction = Transaction(event)
        self.engine.send(replies.SENDER_OK)

    def _was_changed(self, submitter: Account) -> bool:
        """Whether the account is not what it was at the login."""
        now = self._directory.account_by_id(submitter.id)
        return now is None or not now.enabled or now.version != submitter.version

    def _is_own(self, submitter: Account, address: str) -> bool:
        return owns(self._directory, submitter, address)

    def _rcpt(self, event: Rcpt) -> None:
        transaction = self._transaction
        assert transaction is not None
        found = resolve(
            self._directory,
            event.forward_path,
            self._context.hostname,
            relay=self._is_ours or self._context.takes_for(event.forward_path.domain),
        )
        if isinstance(found, Reply):
            self._refuse(f"recipient <{event.raw}>", found)
            return
        known = transaction.copies
        if known and known + len(found.targets) + len(found.elsewhere) > MOST_TARGETS:
            self.engine.send(replies.TOO_MANY_RECIPIENTS)
            return
        transaction.add(event, found)
        self.engine.send(replies.RECIPIENT_OK)

    def _refuse(self, what: str, reply: Reply) -> None:
        self._log("refused %s: %d %s", what, reply.code, reply.text)
        self.engine.send(reply)

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
            self._refuse_message(replies.STORAGE_FULL)

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
        transaction = self._transaction
        assert transaction is not None
        try:
            reply = await self._accept(transaction, event)
        finally:
            self._end_transaction()
        if reply.positive:
            self.engine.send(reply)
        else:
            self._refuse(f"message from <{transaction.sender}>", reply)

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
        prepared = await self._prepare(transaction, queue_id, date)
        if isinstance(prepared, Reply):
            return prepared
        submitter = self._submitter
        if submitter is not None:
            if self._was_changed(submitter):
                return ACCOUNT_CHANGED
            for author in prepared.authors:
                if not self._is_own(submitter, author):
                    return replies.SENDER_NOT_YOURS
        size = len(prepared.content.octets)
        recipients = transaction.recipients
        recipient = recipients[0] if len(recipients) == 1 else ""
        received = format_received(self._received_from(), queue_id, recipient, date)
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
        pending = await self._store(delivery, transaction, submitter)
        if transaction.wishes or transaction.expanded:
            await self._tell_success(delivery, transaction.expanded, pending)
        log.info(
            "id=%s from=<%s> to=%d copies=%d pending=%d queued=%d size=%d client=%s connection=%s user=%s",
            queue_id,
            sender,
            len(recipients),
            len(targets),
            len(pending),
            len(transaction.elsewhere),
            size,
            self._connection.peer[0],
            self._connection.id,
            submitter.address if submitter is not None else "-",
        )
        return replies.queued(queue_id)

    async def _store(
        self, delivery: Delivery, transaction: Transaction, submitter: Account | None
    ) -> list[Target]:
        """Make it durable for all, or for nobody; returns the local targets that are only pending.

        Raises Unavailable.
        """
        if not transaction.elsewhere:
            return await deliver(self._context.store, delivery)
        octets = delivery.received + bytes(delivery.content.octets)
        message = OutgoingMessage(
            delivery.queue_id,
            delivery.reverse_path,
            octets,
            account=submitter.id if submitter is not None else None,
            envid=delivery.envid,
            ret=transaction.mail.parameters.get("RET", ""),
            eight_bit=not octets.isascii(),
        )
        enqueuer = self._context.notices.enqueuer
        await enqueuer.enqueue(
            message,
            list(transaction.elsewhere),
            wishes=transaction.elsewhere,
            own=self._is_ours,
            accepted=not delivery.targets,
        )
        if not delivery.targets:
            return []
        try:
            pending = await deliver(self._context.store, delivery)
        except Unavailable:
            await enqueuer.forget(delivery.queue_id)
            raise
        await enqueuer.accept(delivery.queue_id)
        return pending

    async def _tell_success(
        self, delivery: Delivery, expanded: list[Wished], pending: list[Target]
    ) -> None:
        """Before the 250, so that no stop in between leaves the sender without it (RFC 3461 §5.2.3). The message is
        stored, whatever becomes of the report: it cannot be refused any more."""
        later = {target.account for target in pending}
        delivered = [
            wished
            for account, those in delivery.wishes.items()
            if account not in later
            for wished in those
        ]
        about = About(
            delivery.queue_id,
            delivery.reverse_path,
            delivery.received + delivery.content.header,
            delivery.internaldate,
            delivery.envid,
        )
        try:
            await self._context.notices.tell_success(about, delivered, expanded)
        except Unavailable as failure:
            log.error("id=%s: the sender cannot be told: %s", delivery.queue_id, failure.text)

    async def _prepare(
        self, transaction: Transaction, queue_id: str, date: int
    ) -> Prepared | Reply:
        spool = transaction.spool
        assert spool is not None
        additions = None
        try:
            if transaction.normalizer is not None:
                if rest := transaction.normalizer.finish():
                    spool.write(rest)
                if spool.size > self._context.max_message_size:
                    return replies.TOO_BIG  # mended line ends are longer
            if self._is_ours:
                additions = Additions(
                    format_date(date), f"<{queue_id}@{self._context.hostname}>".encode()
                )
            await spool.flush()
            octets = spool.octets()
        except OSError as error:
            self._log("the message cannot be spooled: %s", error)
            return replies.STORAGE_FULL
        addresses = [target.address for target in transaction.targets.values()]
        is_binary = transaction.is_binary
        if len(octets) <= LARGEST_INLINE:
            return prepare(octets, addresses, additions, is_binary=is_binary)
        return await self._context.store.compute(
            lambda: prepare(octets, addresses, additions, is_binary=is_binary)
        )

    def _received_from(self) -> bytes:
        """The beginning of Received, made once for all messages until EHLO or AUTH change it."""
        if self._origin is None:
            connection = self._connection
            submitter = self._submitter
            origin = Origin(
                self._hello.domain,
                self._hello.extended,
                connection.peer[0] if submitter is None else "",
                f"{connection.tls_version} {connection.tls_cipher}" if connection.is_tls else "",
                submitter is not None,
            )
            self._origin = format_origin(origin, self._context.hostname)
        return self._origin

    # Authentication

    async def _authenticate(self, step: Step) -> None:
        """One step of an exchange (RFC 4954 §4)."""
        match step:
            case Challenge():
                self.engine.send_challenge(step.data)
            case SaslError():
                self.engine.send(Reply(501, "5.5.2", step.text))
            case Credentials():
                await self._log_in(step)

    async def _log_in(self, credentials: Credentials) -> None:
        account = await self._context.authenticator.login(
            credentials.username, credentials.password, self._connection.peer[0]
        )
        # RFC 4616 §2: nobody may act as somebody else here
        authzid = credentials.authzid.lower()
        if account is None or authzid not in ("", credentials.username.lower(), account.address):
            self._login_failures += 1
            is_last = self._login_failures >= MOST_LOGIN_FAILURES
            self.engine.send(TOO_MANY_LOGIN_FAILURES if is_last else replies.AUTHENTICATION_FAILED)
            return
        self._account = account
        self._connection.account = account.id
        self._origin = None
        self.engine.send(replies.AUTHENTICATED)

    def _log(self, text: str, *values: object) -> None:
        log.info("%s %s: " + text, self._connection.id, self._connection.peer[0], *values)


def _temporary(event: Event, failure: Unavailable | None) -> Reply:
    """What answers an event that could not be handled now."""
    if isinstance(event, Auth | AuthResponse):
        return replies.AUTHENTICATION_UNAVAILABLE
    return replies.STORAGE_FULL if isinstance(failure, DiskFull) else replies.LOCAL_ERROR

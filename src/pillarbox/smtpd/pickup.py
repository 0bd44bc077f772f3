"""Takes up what local programs left in the drop folder (`store.drop`), as if they had submitted it.

Who left a message is known by the owner of its file; only trusted users may send as somebody else. A recipient or
author that is refused comes back as a bounce, for nobody waits for a reply here. A file goes when its message is
durable. Until then it is tried again, and its name makes a queue id that lets no copy be stored twice.
"""

import asyncio
import logging
import os
import pwd
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pillarbox.core.address import Address, canonical_domain, quote_local
from pillarbox.core.dates import format_rfc5322_date, pack_date
from pillarbox.core.errors import Failure, Refused, Unavailable
from pillarbox.core.ids import format_queue_id
from pillarbox.core.said import ADDRESS, Said, SaidAddresses
from pillarbox.delivery.deliver import Delivery
from pillarbox.delivery.quota import are_full
from pillarbox.delivery.route import NO_DOMAINS, home_domain, owns, resolve
from pillarbox.dsn.build import Reported
from pillarbox.dsn.wishes import Action
from pillarbox.mime.build import format_field
from pillarbox.queue.notice import About
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.smtp.events import Mail, Rcpt
from pillarbox.smtp.grammar import parse_rcpt
from pillarbox.smtp.reply import Reply
from pillarbox.smtpd.acceptance import Accepted, make_durable
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.message import Additions, Prepared, prepare
from pillarbox.smtpd.told import tell_accepted, tell_refused
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store import drop

LOOK_EVERY_S = 1.0
AGAIN_S = 10.0
"""After something could not be stored."""
MOST_RECIPIENTS = 10_000

_NAME = re.compile(r"([0-9]{1,20})-([0-9a-f]{1,8})\.mail")

_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")

log = logging.getLogger("pillarbox.smtpd")


@dataclass(slots=True)
class _Caller:
    """Who left a message."""

    user: str
    address: str
    is_trusted: bool


class Pickup:
    """One task, from `start` to `stop`."""

    def __init__(
        self, context: SmtpContext, folder: Path, trusted_users: frozenset[str] = frozenset()
    ) -> None:
        """`trusted_users` may send as anybody, besides root and the user of this process."""
        self._context = context
        self._folder = folder
        self._trusted_users = trusted_users
        self._later: dict[str, float] = {}
        """Files that could not be stored, and when to try again (of the monotonic clock)."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look into the folder from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                names = await asyncio.to_thread(drop.waiting, self._folder)
            except OSError as error:
                log.error("the drop folder %s: %s", self._folder, error.strerror)
                names = []
            now = time.monotonic()
            self._later = {name: at for name, at in self._later.items() if at > now}
            for name in names:
                if name not in self._later and not await self._try(name):
                    self._later[name] = now + AGAIN_S
            await asyncio.sleep(LOOK_EVERY_S)

    async def _try(self, name: str) -> bool:
        """False: the file stays, for later."""
        try:
            await self._take(name)
        except (Failure, OSError) as error:
            log.error("%s waits in the drop folder: %s", name, error)
            return False
        except Exception:
            log.exception("%s waits in the drop folder: a bug", name)
            return False
        return True

    async def _take(self, name: str) -> None:
        """Raises Unavailable and OSError: then the file stays."""
        context, folder = self._context, self._folder
        try:
            if not _NAME.fullmatch(name):
                raise Refused("it has not the name of a message that was left")
            envelope, message, user_id = await asyncio.to_thread(
                drop.read, folder, name, context.max_message_size
            )
            message = await context.store.compute_sized(len(message), partial(_mended, message))
            caller = self._caller(user_id, await asyncio.to_thread(_user_name, user_id))
            await self._accept(name, envelope, message, caller)
        except FileNotFoundError:
            return
        except Refused as error:
            kept = await asyncio.to_thread(drop.set_aside, folder, name)
            log.error("%s cannot be taken up, %s; it is kept as %s", name, error.text, kept.name)
            return
        removing = asyncio.ensure_future(asyncio.to_thread(drop.done, folder, name))
        try:
            await asyncio.shield(removing)
        finally:  # a thread goes on where we are stopped meanwhile
            await removing
            context.notices.enqueuer.queue.forget_taken_up(_queue_id(name))

    def _caller(self, user_id: int, user: str) -> _Caller:
        is_trusted = user_id in (0, os.geteuid()) or user in self._trusted_users
        return _Caller(user, f"{user.lower()}@{self._home_domain()}", is_trusted)

    def _home_domain(self) -> str:
        context = self._context
        return home_domain(context.store.directory, canonical_domain(context.hostname))

    async def _accept(
        self, name: str, envelope: drop.Dropped, message: bytes, caller: _Caller
    ) -> None:
        """Store a message for all whom it can reach, and tell its sender of the others. Raises Refused for what
        cannot be a message, Unavailable."""
        context = self._context
        queue_id = _queue_id(name)
        date = pack_date(int(context.clock()))
        sender = caller.address
        if caller.is_trusted and envelope.sender is not None:
            sender = envelope.sender and self._qualified(envelope.sender)
        transaction = Transaction(_mail(sender, envelope, message), began=context.recorder.now())
        failed = await self._resolve(transaction, envelope, queue_id)
        prepared = await self._prepare(transaction, envelope, message, caller, (queue_id, date))
        result = "rejected"
        if isinstance(prepared, Reply):
            failed = [_failed(raw, prepared) for raw in envelope.recipients]
        elif transaction.recipients:
            received = (
                f"Received: by {context.hostname} (Pillarbox, from user {caller.user})\r\n\tid {queue_id}; "
            ).encode() + format_rfc5322_date(date)
            delivery = Delivery(
                queue_id,
                sender,
                received + b"\r\n",
                date,
                prepared.content,
                list(transaction.targets.values()),
                envelope.envid,
                transaction.wishes,
                may_repeat=True,
            )
            pending = await make_durable(context, Accepted(delivery, transaction, None, own=True))
            if context.recorder.is_on:
                tell_accepted(
                    context.recorder,
                    transaction,
                    prepared.content,
                    connection="",
                    queue_id=queue_id,
                    sender=sender,
                    user=f"user {caller.user} by sendmail",
                    pending=pending,
                    came_octets=0,
                )
            result = "accepted"
            context.tally.message_octets["sendmail"] += len(message)
        context.tally.messages["sendmail", result] += 1
        log.info(
            "id=%s from=<%s> to=%s recipients=%d refused=%d size=%d dropped by user %s",
            queue_id,
            Said(sender, ADDRESS),
            SaidAddresses(transaction.recipients),
            len(transaction.recipients),
            len(failed),
            len(message),
            caller.user,
        )
        if failed:
            for one in failed:
                what = ("recipient", sender, one.address)
                said = Reply(0, one.status, one.diagnostic)
                tell_refused(context.recorder, "", what, said, f"user {caller.user}", queue_id)
            about = About(queue_id, sender, message, date, envelope.envid, envelope.ret)
            # If that cannot be done now, all of it is done again: what is stored already is found then.
            await context.notices.tell(about, failed)

    async def _resolve(
        self, transaction: Transaction, envelope: drop.Dropped, queue_id: str
    ) -> list[Reported]:
        """Add the recipients that can be reached; returns the others."""
        failed = []
        context = self._context
        for number, raw in enumerate(envelope.recipients):
            if number % 100 == 99:
                await asyncio.sleep(0)
            address = self._parse(raw) if number < MOST_RECIPIENTS else TOO_MANY
            if isinstance(address, Reply):
                failed.append(_failed(raw, address, envelope.notify))
                continue
            may_relay = context.may_send_on(address.domain)
            found = resolve(context.store.directory, address, context.hostname, relay=may_relay)
            if found == NO_DOMAINS:
                raise Unavailable(NO_DOMAINS.text)
            if isinstance(found, Reply):
                failed.append(_failed(raw, found, envelope.notify))
                continue
            if context.store.directory.quotas.exist() and not found.elsewhere:
                accounts = [target.account for target in found.targets]
                if await are_full(context.store, accounts, 0):
                    failed.append(_failed(raw, replies.MAILBOX_FULL, envelope.notify))
                    continue
            parameters = {"NOTIFY": envelope.notify} if envelope.notify else {}
            transaction.add(Rcpt(address, self._qualified(raw), parameters), found)
        if context.notices.enqueuer.queue.was_taken_up(queue_id):
            transaction.elsewhere.clear()  # a stop came between the commit and the removal of the file
        return failed

    def _qualified(self, address: str) -> str:
        """An address without a domain is one of ours."""
        return address if "@" in address else f"{address}@{self._home_domain()}"

    def _parse(self, raw: str) -> Address | Reply:
        local, _, domain = self._qualified(raw).rpartition("@")
        path = parse_rcpt(
            f"TO:<{Address(local, domain)}>".encode("utf-8", "replace"), {}, utf8=True
        )
        if isinstance(path, Reply):
            return path
        assert path.address is not None
        return path.address

    async def _prepare(
        self,
        transaction: Transaction,
        envelope: drop.Dropped,
        message: bytes,
        caller: _Caller,
        identity: tuple[str, int],
    ) -> Prepared | Reply:
        queue_id, date = identity
        context = self._context
        additions = Additions(
            format_rfc5322_date(date),
            f"<{queue_id}@{context.hostname}>".encode(),
            _author(envelope.name, caller.address),
        )
        marks, rendered = transaction.loop_marks, bool(transaction.targets)
        prepared = await context.store.compute(
            lambda: prepare(
                message, marks, additions, checks_authors=not caller.is_trusted, rendered=rendered
            )
        )
        if isinstance(prepared, Prepared):
            for address in prepared.authors:
                if not self._may_be(caller, address):
                    return replies.SENDER_NOT_YOURS
        return prepared

    def _may_be(self, caller: _Caller, address: str) -> bool:
        """Whether a user may send as an address in From or Sender: the own one, or one of the account of that name."""
        directory = self._context.store.directory
        account = directory.account(caller.address)
        if account is not None:
            return owns(directory, account, address)
        return address.lower() == caller.address


def _mended(message: bytes) -> bytes:
    """With CRLF only: programs leave lines as they have them."""
    normalizer = LineEndNormalizer()
    return normalizer.feed(message) + normalizer.finish()


def _user_name(user_id: int) -> str:
    """Asks the system, which may block."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _queue_id(name: str) -> str:
    """The same whenever a file is taken up."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return format_queue_id(int(match[1]) // 1000, int(match[2], 16))


TOO_MANY = Reply(452, "4.5.3", "Too many recipients")


def _author(name: str, address: str) -> bytes:
    """The value of From."""
    if not name:
        return address.encode()
    if name.isascii() and not _PHRASE.fullmatch(name):
        name = quote_local(name)
    phrase = format_field("From", name).removeprefix(b"From: ").rstrip(b"\r\n")
    return b"%b <%b>" % (phrase, address.encode())


def _mail(sender: str, envelope: drop.Dropped, message: bytes) -> Mail:
    """As if it had come by SMTP."""
    local, _, domain = sender.rpartition("@")
    parameters = {"ENVID": envelope.envid, "RET": envelope.ret}
    if not "".join((sender, *envelope.recipients)).isascii() or not message.isascii():
        parameters["SMTPUTF8"] = ""
    return Mail(
        Address(local, domain) if sender else None,
        len(message),
        {name: value for name, value in parameters.items() if value or name == "SMTPUTF8"},
    )


def _failed(raw: str, reply: Reply, notify: str = "") -> Reported:
    return Reported(
        raw,
        Action.FAILED,
        reply.enhanced or "5.0.0",
        notify,
        diagnostic=f"{reply.code} {reply.enhanced} {reply.text}",
    )

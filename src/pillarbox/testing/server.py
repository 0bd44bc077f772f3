"""`MailServer`: a whole server in a thread of the test's process, on free ports of 127.0.0.1, with TLS.

Its mail for other hosts goes through the real queue to `elsewhere`, in the same thread; nothing leaves the machine.
"""

import asyncio
import datetime
import email
import email.policy
import os
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import argon2

from pillarbox.app.run import loop_factory
from pillarbox.app.seams import Seams
from pillarbox.app.server import Server
from pillarbox.app.services import make_services
from pillarbox.auth.passwords import hash_password
from pillarbox.certs.present import Certificates
from pillarbox.config.schema import Config, Imap, Listen, Security, Smtp, Submission
from pillarbox.core.errors import DiskFull, Refused
from pillarbox.core.secret import Secret
from pillarbox.net.service import Service
from pillarbox.queue.worker import QueueWorker
from pillarbox.smtpd.context import SmtpContext
from pillarbox.store import mailboxes, messages
from pillarbox.store.directory import Directory, canonical_address
from pillarbox.store.outgoing_row import FREE, Selection
from pillarbox.store.store import Store
from pillarbox.testing.arguments import (
    ensure_accounts,
    ensure_address,
    ensure_hostname,
    ensure_number,
    ensure_separator,
    ensure_text,
)
from pillarbox.testing.elsewhere import OtherHosts
from pillarbox.testing.faults import Fault, Faults, with_faults

HOST = "127.0.0.1"
PASSWORD = "pillarbox"
ACCOUNTS = {"alice@example.test": PASSWORD, "bob@example.test": PASSWORD}
SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
SMTP_SERVICES = ("smtp", "submission", "submissions")

_LOOK_EVERY_S = 0.02
_START_S = 30.0
_CALL_S = 30.0
_DRAIN_S = 1.0
_SETTLE_LOOK_S = 0.005
_STEP_S = 60.0
_MEMORY = "/dev/shm"
_ENOUGH_OCTETS = 512 * 1024 * 1024
_STORING = ("append", "append_all", "write")
"""Methods of the store that need room on the disk; mail by SMTP is refused before."""
STORAGE_FULL = "452 4.3.1 Insufficient system storage"

_quick_hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_QUEUE_ID = re.compile(r"\sid ([0-9A-Z]+)\b")

T = TypeVar("T")


class MailServer:
    """Started when it is made; `close` it, or use it in a `with`. Its methods may be called from any thread."""

    def __init__(
        self,
        accounts: Mapping[str, str] = ACCOUNTS,
        *,
        hostname: str = "mail.example.test",
        allow_cleartext_login: bool = False,
        hierarchy_separator: str = "/",
        relay: bool = True,
        starttls: bool = True,
    ) -> None:
        """`accounts` are passwords by address; their domains are made. `allow_cleartext_login` lets clients log in
        without TLS, on port "smtp" too. `relay`: port "smtp" takes mail for other hosts without a login. `starttls`:
        port "smtp" offers STARTTLS; some clients use what is offered, and then must trust `ca_file`.

        Raises TypeError and ValueError for what cannot be, OSError and pillarbox.core.errors.Failure when it cannot
        start."""
        ensure_accounts(accounts)
        ensure_hostname(hostname)
        ensure_separator(hierarchy_separator)
        self.host = HOST
        self.ports: dict[str, int] = {}
        """By service: smtp, submission, submissions, imap, imaps, pop3, pop3s."""
        self.accounts: dict[str, str] = {}
        """Passwords by address."""
        self._temporary = tempfile.TemporaryDirectory(prefix="pillarbox-", dir=_find_folder())
        self.folder = Path(self._temporary.name)
        """Where the server keeps its data; gone after `close`."""
        self.ca_file = self.folder / "tls" / "ca.pem"
        """The certificate that clients must trust."""
        self._config = Config(
            hostname,
            str(self.folder),
            listen=Listen(**{service: [f"{HOST}:0"] for service in SERVICES}),
            security=Security(allow_cleartext_login, connections_per_address=10_000),
            imap=Imap(hierarchy_separator),
            smtp=Smtp(error_delay="0s"),
            submission=Submission(recipients_per_hour=0, recipients_per_day=0),
        )
        self.faults = Faults()
        """What goes wrong for those who send mail to this server."""
        self.elsewhere = Faults()
        """What goes wrong when this server sends mail to other hosts."""
        self._relay = relay
        self._starttls = starttls
        self._is_full = False
        self._ahead_s = 0.0
        self._outbox: list[tuple[str, EmailMessage]] = []
        self._next_uid: dict[int, int] = {}
        self._mutex = threading.Lock()
        self._started: Future[None] = Future()
        self._thread: threading.Thread | None = None
        try:
            self._directory = Directory(self.folder / "directory.db", clock=time.time)
            for address, password in accounts.items():
                self.add_account(address, password)
            self._thread = threading.Thread(target=self._run, name="mailserver", daemon=True)
            self._thread.start()
            self._started.result(_START_S)
        except BaseException:
            self.close()
            raise

    # What tests use

    def add_account(self, address: str, password: str = PASSWORD) -> None:
        """Make an account, and its domain where that is new. Counts at once. Raises Refused if it is there."""
        canonical = ensure_address("address", address)
        ensure_text("password", password)
        domain = canonical.rpartition("@")[2]
        if not self._directory.is_local(domain):
            self._directory.add_domain(domain)
        hashes = hash_password(Secret(password), _quick_hasher)
        self.accounts[self._directory.add_account(canonical, *hashes).address] = password

    def add_alias(self, alias: str, target: str) -> None:
        """Mail for `alias`, or for "@domain" (everything that has no other match), goes to `target` too."""
        ensure_text("alias", alias)
        ensure_address("alias", f"any{alias}" if alias.startswith("@") else alias)
        ensure_address("target", target)
        domain = alias.rpartition("@")[2]
        if not self._directory.is_local(domain):
            self._directory.add_domain(domain)
        self._directory.add_alias(alias, target)

    @property
    def outbox(self) -> list[EmailMessage]:
        """All mail that came into an INBOX or went to other hosts so far, once for each who got it, oldest first.

        Waits for what is on its way to other hosts; what these defer is not in it.
        Who got it stands in `Delivered-To`, the envelope's sender in `Return-Path`.
        """
        self.settle()
        return [message for _, message in self._arrived()]

    def clear(self) -> None:
        """Let `outbox` be empty; mailboxes keep their mail."""
        self.settle()
        with self._mutex:
            self._collect_all()
            self._outbox.clear()

    def wait_for(
        self,
        predicate: Callable[[EmailMessage], bool] | None = None,
        *,
        subject: str | None = None,
        to: str | None = None,
        timeout: float = 10.0,
    ) -> EmailMessage:
        """The first mail of the outbox, there already or to come, that fits all that is given.

        `subject` is the whole subject, `to` the address of the account, or at another
        host, that got it. Raises TimeoutError after
        `timeout` seconds, naming what came instead.
        """
        if predicate is not None and not callable(predicate):
            raise TypeError(
                f"predicate={predicate!r}: give a function of a message, or subject=, to="
            )
        if subject is not None:
            ensure_text("subject", subject)
        recipient = ensure_address("to", to) if to is not None else None
        ensure_number("timeout", timeout, 0)
        deadline = time.monotonic() + timeout
        while True:
            arrived = self._arrived()
            for account, message in arrived:
                if (
                    (recipient is None or account == recipient)
                    and (subject is None or message["Subject"] == subject)
                    and (predicate is None or predicate(message))
                ):
                    return message
            if time.monotonic() > deadline:
                each = (f"{message['Subject']!r} for {account}" for account, message in arrived)
                came = ", ".join(each) or "none"
                raise TimeoutError(f"no such mail within {timeout:g} s; came: {came}")
            time.sleep(_LOOK_EVERY_S)

    # Faults and time

    @contextmanager
    def disk_full(self) -> Iterator[Fault]:
        """Within the `with`, no message can be stored, moved or flagged: SMTP answers 452 behind the dot, IMAP NO. What
        is there can be read. Raises RuntimeError within another."""
        store = self._server.store
        assert store is not None
        if self._is_full:
            raise RuntimeError("the disk is full already")
        self._is_full = True
        with self.faults.refuse(reply=STORAGE_FULL, at="dot") as fault:
            for name in _STORING:
                setattr(store, name, _fail_full)
            try:
                yield fault
            finally:
                for name in _STORING:
                    delattr(store, name)
                self._is_full = False

    @property
    def now(self) -> float:
        """The time that the queue sees, in epoch seconds."""
        return time.time() + self._ahead_s

    def advance(self, **duration: float) -> None:
        """Let time pass for the queue, as for `datetime.timedelta`: `advance(minutes=30)`, `advance(days=5)`. On
        return, all that was to be tried until then was tried, one attempt after the other, and bounces are
        delivered."""
        seconds = datetime.timedelta(**duration).total_seconds()
        if seconds <= 0:
            raise ValueError("say how much time passes: advance(minutes=30)")
        target = self.now + seconds
        self.settle()
        while (due := self.run(self._next_due)) is not None and due <= target:
            if due > self.now:
                self._go_to(due)
            elif self.now < target:  # its destination is given a rest
                self._go_to(min(target, self.now + _STEP_S))
            else:
                break
            self._try_now()
            self.settle()
        self._go_to(target)
        self._try_now()
        self.settle()

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until the queue has tried all that is to be tried now; what is deferred waits for `advance`. Raises
        TimeoutError."""
        ensure_number("timeout", timeout, 0)
        deadline = time.monotonic() + timeout
        while self.run(self._has_work):
            if time.monotonic() > deadline:
                raise TimeoutError(f"mail for other hosts is still on its way after {timeout:g} s")
            time.sleep(_SETTLE_LOOK_S)

    def _go_to(self, moment: float) -> None:
        self._ahead_s = max(self._ahead_s, moment - time.time())

    def _try_now(self) -> None:
        self._loop.call_soon_threadsafe(self._enqueuer.hint)

    async def _has_work(self, _store: Store) -> bool:
        """Whether something is under way in the queue, or due for a destination that is not given a rest."""
        queue, worker, now = self._enqueuer.queue, self._enqueuer.courier, self.now
        assert isinstance(worker, QueueWorker)
        if worker.in_hand:
            return True
        looked = worker.has_room(0, [])  # else there may be rows that it has not seen yet
        return any(
            row.owner
            or (
                row.held == FREE
                and row.next_try <= now
                and not (looked and not worker.has_room(0, [row.next_hop]))
            )
            for row in queue.selected.each_row(Selection())
        )

    async def _next_due(self, _store: Store) -> int | None:
        return self._enqueuer.queue.next_due()

    def client_context(self) -> ssl.SSLContext:
        """For clients of Python's ssl module: trusts this server."""
        return ssl.create_default_context(cafile=self.ca_file)

    def run(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with the store on the server's event loop; for what the protocols cannot do."""
        assert self._server.store is not None
        future = asyncio.run_coroutine_threadsafe(work(self._server.store), self._loop)
        return future.result(_CALL_S)

    def close(self) -> None:
        """Stop the server and delete its data. Harmless when done before."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()
        if self.folder.exists():
            self._directory.close()
            self._temporary.cleanup()

    def __enter__(self) -> "MailServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # The thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._others = OtherHosts(self._config.hostname, self.elsewhere)
        seams = Seams(
            lambda: self.now, self._others.find_route, self._others.tls, self._make_services
        )
        self._server = Server(self._config, failure_delay_s=0.0, seams=seams)
        try:
            await self._others.start()
            await self._server.start()
        except BaseException as error:
            await self._others.stop()
            self._started.set_exception(error)
            return
        addresses = self._server.addresses
        self.ports = {service: bound[0][1] for service, bound in addresses.items()}
        self._started.set_result(None)
        await self._stopping.wait()
        await self._others.stop()  # first, for the queue would wait for its slow answers
        await self._server.stop(_DRAIN_S)

    def _make_services(
        self, config: Config, smtp: SmtpContext, certificates: Certificates
    ) -> dict[str, Service]:
        """Those of the real server, with what shall go wrong in front of their sessions."""
        self._enqueuer = smtp.notices.enqueuer
        smtp.sender_domains = None  # it would ask the DNS
        smtp.options["smtp"] = replace(smtp.options["smtp"], starttls=self._starttls)
        if self._relay:
            smtp.takes_for = lambda _domain: True
        services = make_services(config, smtp, certificates)
        for name in SMTP_SERVICES:
            services[name].new_session = with_faults(services[name].new_session, self.faults)
        return services

    # The outbox

    def _arrived(self) -> list[tuple[str, EmailMessage]]:
        with self._mutex:
            self._collect_all()
            return list(self._outbox)

    def _collect_all(self) -> None:
        """Add what came since the last look, oldest first."""
        found = self.run(self._collect)
        found.sort(key=lambda row: row[:2])
        self._outbox += [(account, message) for _, _, account, message in found]

    async def _collect(self, store: Store) -> list[tuple[int, str, str, EmailMessage]]:
        """(saved date, queue id, account, message) rows; within a second, queue ids sort by time."""
        found = []
        for account in store.directory.accounts():
            first = self._next_uid.get(account.id, 1)
            for uid, savedate, octets in await _read_inbox(store, account.id, first):
                message = _parse(octets)
                queue_id = _QUEUE_ID.search(message.get("Received", ""))
                found.append((savedate, queue_id[1] if queue_id else "", account.address, message))
                self._next_uid[account.id] = uid + 1
        for received in self._others.take_received():
            for recipient in received.recipients:
                message = _parse(_envelope(received.reverse_path, recipient) + received.octets)
                queue_id = _QUEUE_ID.search(message.get("Received", ""))
                number = queue_id[1] if queue_id else ""
                found.append((received.at, number, _known_as(recipient), message))
        return found


def _find_folder() -> str | None:
    """Memory where there is enough: nothing has to survive, and syncs to a busy disk take most of the time of a start.
    None: as Python chooses, or TMPDIR says."""
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK):
        room = os.statvfs(_MEMORY)
        if room.f_bavail * room.f_frsize >= _ENOUGH_OCTETS:
            return _MEMORY
    return None


async def _fail_full(*_values: object) -> None:
    raise DiskFull


def _envelope(reverse_path: str, recipient: str) -> bytes:
    """What the last host puts in front of a message that it delivers."""
    return f"Return-Path: <{reverse_path}>\r\nDelivered-To: {recipient}\r\n".encode()


def _known_as(recipient: str) -> str:
    try:
        return canonical_address(recipient)
    except Refused:
        return recipient.lower()


def _parse(octets: bytes) -> EmailMessage:
    """With LF as Python's line end, so that tests compare with plain strings."""
    return email.message_from_bytes(octets.replace(b"\r\n", b"\n"), policy=email.policy.default)


async def _read_inbox(store: Store, account: int, first_uid: int) -> list[tuple[int, int, bytes]]:
    """(UID, saved date, octets) of the messages in INBOX from a UID on."""
    columns = ("uid", "savedate", "content", "header_size", "size", "header")
    ranges = [(first_uid, messages.MOST_UIDS)]
    rows = await store.read(
        account, lambda tx: messages.select(tx, mailboxes.INBOX, ranges, columns)
    )
    found = []
    for uid, savedate, content, header_size, size, header in rows:
        body = await store.read(
            account,
            lambda tx, content=content, length=size - header_size: messages.body(  # type: ignore[misc]
                tx, content, 0, length
            ),
        )
        found.append((uid, savedate, header + body))
    return found

"""Telling senders what became of their mail: a report goes to an account of ours at once, else by the queue.

Reports have the null path and are never answered by another (RFC 5321 §6.1, RFC 3461 §6.1).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pillarbox.core.address import Address
from pillarbox.core.dates import format_rfc5322_date, pack_date
from pillarbox.core.errors import Refused
from pillarbox.core.ids import format_queue_id
from pillarbox.core.said import ADDRESS, Said
from pillarbox.delivery.deliver import Delivery, Wished, deliver
from pillarbox.delivery.route import resolve
from pillarbox.dsn.build import Built, Report, Reported, build_report
from pillarbox.dsn.wishes import Action
from pillarbox.mime.build import format_field
from pillarbox.mime.header import header_end
from pillarbox.queue.enqueue import Enqueuer
from pillarbox.smtp.reply import Reply
from pillarbox.store.content import make_content
from pillarbox.store.directory import Account, canonical_address
from pillarbox.store.outgoing_row import OutgoingMessage
from pillarbox.store.pending import PendingDelivery
from pillarbox.store.store import Store
from pillarbox.trace.events import Noticed

HELD_TEXT = """\
{account} has sent mail to more recipients at other hosts than it may in an hour
or a day. Its further mail was accepted, but is held and not sent yet.

If this was you: an administrator can let it go. If it was not: somebody knows
the password of this account. Change it at once.

For the administrator:
    pillarbox queue list --address {account}
    pillarbox queue release --address {account}
    pillarbox queue remove --address {account}
    pillarbox account passwd {account}
    pillarbox account limits {account} --hourly N --daily N
"""

log = logging.getLogger("pillarbox.queue")


@dataclass(slots=True, frozen=True)
class About:
    """The message that a report is about."""

    queue_id: str
    reverse_path: str
    octets: bytes
    """All of it; its header block is enough where nothing failed."""
    arrival: int
    """Packed (`core.dates`)."""
    envid: str = ""
    ret: str = ""


@dataclass(slots=True)
class Notices:
    """One for each server."""

    store: Store
    enqueuer: Enqueuer
    hostname: str
    clock: Callable[[], float]
    entropy: Callable[[], int]
    """20 random bits, for queue ids."""
    copy_to: str = ""
    """An address that gets a copy of each bounce; "" for nobody."""

    async def tell(self, about: About, told: Sequence[Reported]) -> None:
        """Durable on return, if somebody can be told and wants to be. Raises Unavailable."""
        now = self.clock()
        report = Report(
            self._new_id(now),
            self.hostname,
            f"postmaster@{self.hostname}",
            about.reverse_path,
            pack_date(int(now)),
            told,
            about.octets,
            arrival=about.arrival,
            envid=about.envid,
            ret=about.ret,
        )
        built = build_report(report)
        if built is not None:
            await self._send(report.id, about.reverse_path, built)
            to = Said(about.reverse_path, ADDRESS)
            log.info("id=%s report=%s to=<%s>", about.queue_id, report.id, to)
            self._note(about.queue_id, report)
        elif not about.reverse_path:
            log.warning("id=%s: nobody can be told: it came with the null path", about.queue_id)
        await self._copy(about, report)

    def _new_id(self, now: float) -> str:
        return format_queue_id(int(now * 1_000_000), self.entropy())

    async def _copy(self, about: About, report: Report) -> None:
        """What failed, to the administrator. Nothing of mail with the null path: a copy that fails itself would make
        another, for ever."""
        failed = [
            replace(one, notify="")
            for one in report.recipients
            if one.action is Action.FAILED and one.address.lower() != self.copy_to.lower()
        ]
        told = ("", self.copy_to.lower())
        if not self.copy_to or not failed or about.reverse_path.lower() in told:
            return
        copy = replace(
            report,
            id=self._new_id(self.clock()),
            reverse_path=self.copy_to,
            recipients=failed,
            ret="HDRS",
        )
        built = build_report(copy)
        assert built is not None  # it has a recipient that wants it
        await self._send(copy.id, self.copy_to, built)
        self._note(about.queue_id, copy)

    def _note(self, queue_id: str, report: Report) -> None:
        """Tell the trace which message a report is about."""
        action = report.recipients[0].action.value
        told = [one.address for one in report.recipients]
        self.store.recorder.add(Noticed(queue_id, report.id, report.reverse_path, action, told))

    async def tell_success(
        self, about: About, delivered: Sequence[Wished], expanded: Sequence[Wished] = ()
    ) -> None:
        """For recipients with NOTIFY=SUCCESS: delivered (RFC 3461 §5.2.3), or an alias with several targets
        (§5.2.7.3 c). Raises Unavailable."""
        if about.reverse_path:
            told = [_succeeded(one, Action.DELIVERED) for one in delivered]
            told += [_succeeded(one, Action.EXPANDED) for one in expanded]
            await self.tell(about, told)

    async def tell_later_success(self, delivery: PendingDelivery) -> None:
        """The same for a delivery that was pending. Raises Unavailable."""
        about = About(
            delivery.queue_id,
            delivery.sender,
            delivery.prefix + delivery.octets[: header_end(delivery.octets)],
            delivery.internaldate,
            delivery.envid,
        )
        await self.tell_success(about, [Wished(*wish) for wish in delivery.wishes])

    async def tell_over_limit(self, account: Account) -> None:
        """An account has sent to too many, and its mail is held: the account and postmaster, once. Raises
        Unavailable."""
        limits = self.enqueuer.limits
        if limits is None or not limits.is_news(account.id):
            return
        domain = account.address.rpartition("@")[2]
        for address in (account.address, f"postmaster@{domain}"):
            now = self.clock()
            notice_id = self._new_id(now)
            header = [
                b"Date: " + format_rfc5322_date(pack_date(int(now))) + b"\r\n",
                format_field("From", f"Mail Delivery System <postmaster@{self.hostname}>"),
                format_field("To", address),
                format_field("Subject", "Mail is held: too many recipients"),
                format_field("Message-ID", f"<{notice_id}@{self.hostname}>"),
                b"Auto-Submitted: auto-generated\r\n",  # RFC 3834 §5
                b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
            ]
            text = HELD_TEXT.format(account=account.address).replace("\n", "\r\n").encode()
            await self._send(notice_id, address, Built(b"".join(header) + text, utf8=False))

    async def _send(self, report_id: str, address: str, built: Built) -> None:
        """To an account of ours at once, else by the queue."""
        try:
            canonical = canonical_address(address)
        except Refused:
            said = Said(address, ADDRESS)
            log.warning("report=%s: <%s> is no address", report_id, said)
            return
        directory = self.store.directory
        if not directory.is_local(canonical.rpartition("@")[2]):
            message = OutgoingMessage(report_id, "", built.octets)
            await self.enqueuer.enqueue(message, [address], own=True, utf8=built.utf8)
            return
        local, _, domain = canonical.rpartition("@")
        found = resolve(directory, Address(local, domain), self.hostname, relay=False)
        if isinstance(found, Reply):  # like a user of this machine without an account
            said = Said(address, ADDRESS)
            log.info("report=%s: nobody has the address <%s>: to postmaster", report_id, said)
            postmaster = Address("postmaster", domain)
            found = resolve(directory, postmaster, self.hostname, relay=False)
        if isinstance(found, Reply):
            log.warning("report=%s: nobody can be told: %s", report_id, found.text)
            return
        if found.elsewhere:
            message = OutgoingMessage(report_id, "", built.octets)
            await self.enqueuer.enqueue(message, found.elsewhere, own=True, utf8=built.utf8)
        if found.targets:
            date = pack_date(int(self.clock()))
            content = make_content(built.octets)
            delivery = Delivery(report_id, "", b"", date, content, found.targets)
            await deliver(self.store, delivery, has_no_client=True)


def _succeeded(one: Wished, action: Action) -> Reported:
    return Reported(one.address, action, "2.0.0", "SUCCESS", one.orcpt)

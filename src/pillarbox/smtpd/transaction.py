"""A mail transaction of a session (RFC 5321 §3.3): for whom the message is, and what its sender wishes to be told
(RFC 3461 §5.2)."""

from dataclasses import dataclass, field

from pillarbox.core.address import Address, canonical_domain, canonical_local
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.deliver import Wished
from pillarbox.delivery.route import Destination
from pillarbox.dsn.wishes import (
    NO_WISH,
    Action,
    Wish,
    merge,
    original_recipient,
    wants,
    without_success,
)
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.smtp.events import Mail, Rcpt
from pillarbox.smtp.grammar import UTF8
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.server_transaction import BINARY
from pillarbox.store.content import Content
from pillarbox.store.spool import Spool
from pillarbox.trace.message_id import find_message_id


@dataclass(slots=True)
class Transaction:
    """Between MAIL and the answer to the end of the message."""

    mail: Mail
    targets: dict[int, Target] = field(default_factory=dict)
    """By account: who is reached in two ways gets one copy."""
    elsewhere: dict[str, Wish] = field(default_factory=dict)
    """Addresses at other hosts, each once, in order."""
    forwarders: list[str] = field(default_factory=list)
    """Aliases of ours that lead to other hosts, canonical."""
    recipients: list[str] = field(default_factory=list)
    """As written."""
    wishes: dict[int, list[Wished]] = field(default_factory=dict)
    """By account: recipients whose delivery there is to be told to the sender."""
    expanded: list[Wished] = field(default_factory=list)
    """Aliases with several targets, of which the sender is told."""
    spool: Spool | None = None
    normalizer: LineEndNormalizer | None = None
    """Line ends are mended."""
    routes: list[tuple[str, list[str]]] = field(default_factory=list)
    """Each accepted recipient, as written, and the addresses that it leads to, if these are others: for the trace."""
    found_by: list[tuple[str, str]] = field(default_factory=list)
    """Recipients, as written, with `Destination.how`: for the trace."""
    missing: list[tuple[str, list[str]]] = field(default_factory=list)
    """Recipients, as written, with `Destination.missing`: for the trace."""
    began: int = 0
    """When MAIL came, microseconds since 1970: for the trace."""
    problem: Reply | None = None
    """The message cannot be taken; what is left of it is dropped as it comes."""
    content: Content | None = None
    """Of the message, once it came whole and could be parsed: for the trace."""

    def find_message_id(self) -> str:
        """As far as it is known what came; "" for none."""
        if self.content is not None:
            header = self.content.header
        else:
            header = self.spool.head() if self.spool is not None else b""
        return find_message_id(header.partition(b"\r\n\r\n")[0] + b"\r\n")

    @property
    def reverse_path(self) -> Address | None:
        return self.mail.reverse_path

    @property
    def sender(self) -> str:
        path = self.mail.reverse_path
        return str(path) if path else ""

    @property
    def is_binary(self) -> bool:
        """Its lines may end as they like: it is made fit for storing at its end (RFC 3030 §3)."""
        return self.mail.parameters.get("BODY", "").upper() == BINARY

    @property
    def is_utf8(self) -> bool:
        """It came with SMTPUTF8 (RFC 6531 §3.4)."""
        return UTF8 in self.mail.parameters

    @property
    def loop_marks(self) -> list[str]:
        """What Delivered-To says of the copies: a message that has one of these already is in a loop."""
        return [*(target.address for target in self.targets.values()), *self.forwarders]

    @property
    def copies(self) -> int:
        """How many were asked for so far, here and at other hosts."""
        return len(self.targets) + len(self.elsewhere)

    def add(self, rcpt: Rcpt, found: Destination) -> None:
        """An accepted recipient and where its mail goes."""
        self.recipients.append(rcpt.raw)
        leads_to = [target.address for target in found.targets] + found.elsewhere
        self.routes.append((rcpt.raw, [] if leads_to == [rcpt.raw] else leads_to))
        if found.how:
            self.found_by.append((rcpt.raw, found.how))
        if found.missing:
            self.missing.append((rcpt.raw, found.missing))
        wish = _wish(rcpt)
        if wish is not NO_WISH and wants(wish.notify, Action.DELIVERED):
            told = Wished(rcpt.raw, wish.orcpt)
            if len(found.targets) + len(found.elsewhere) > 1:
                self.expanded.append(told)
                wish = Wish(without_success(wish.notify), wish.orcpt)
            else:
                for target in found.targets:
                    self.wishes.setdefault(target.account, []).append(told)
        for target in found.targets:
            self.targets.setdefault(target.account, target)
        if found.elsewhere:
            self._add_elsewhere(rcpt, found.elsewhere, wish)

    def _add_elsewhere(self, rcpt: Rcpt, addresses: list[str], wish: Wish) -> None:
        """RFC 3461 §5.2.7.2, §5.2.7.3 c: behind an alias, hosts and reports still know the address that was meant.

        DEVIATES: RFC 3461 §6.3 d wants no Original-Recipient in our own reports where the client gave no ORCPT; but a
        sender who wrote to an alias cannot tell otherwise which of his recipients is meant.
        """
        if not _is_same(rcpt.forward_path, addresses):
            self.forwarders.append(_canonical(rcpt.forward_path))
            if not wish.orcpt:
                wish = Wish(wish.notify, original_recipient(rcpt.raw))
        for address in addresses:
            known = self.elsewhere.get(address)
            self.elsewhere[address] = wish if known is None else merge(known, wish)

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None


def _wish(rcpt: Rcpt) -> Wish:
    parameters = rcpt.parameters
    if not parameters:
        return NO_WISH
    return Wish(parameters.get("NOTIFY", ""), parameters.get("ORCPT", ""))


def _is_same(path: Address, addresses: list[str]) -> bool:
    """Whether mail goes to another host as it came, through no alias of ours."""
    return (
        len(addresses) == 1
        and addresses[0].rpartition("@")[0] == path.local
        and (addresses[0].rpartition("@")[2] == _canonical(path).rpartition("@")[2])
    )


def _canonical(path: Address) -> str:
    try:
        domain = canonical_domain(path.domain)
    except ValueError:
        domain = path.domain  # which no alias has
    return f"{canonical_local(path.local)}@{domain}"

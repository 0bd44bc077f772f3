"""The end of a message's data: what came of it, out of the spool and ready for its recipients."""

from pillarbox.smtp import reply as replies
from pillarbox.smtp.reply import Reply
from pillarbox.smtpd.context import SmtpContext
from pillarbox.smtpd.message import Additions, Prepared, prepare
from pillarbox.smtpd.transaction import Transaction
from pillarbox.store.content import LARGEST_INLINE


async def prepare_whole(
    context: SmtpContext,
    transaction: Transaction,
    additions: Additions | None,
    *,
    checks_authors: bool,
) -> Prepared | Reply:
    """The message of a transaction whose data is over, with `additions` if it lacks them, or why it is refused. Raises
    OSError where it cannot be spooled."""
    spool = transaction.spool
    assert spool is not None
    if transaction.normalizer is not None:
        if rest := transaction.normalizer.finish():
            spool.write(rest)
        if spool.size > context.max_message_size:
            return replies.TOO_BIG  # mended line ends are longer
    await spool.flush()
    octets = spool.octets()
    marks, is_binary = transaction.loop_marks, transaction.is_binary
    if len(octets) <= LARGEST_INLINE and not is_binary:
        return prepare(octets, marks, additions, checks_authors=checks_authors)
    rendered = bool(transaction.targets)
    return await context.store.compute(
        lambda: prepare(
            octets,
            marks,
            additions,
            checks_authors=checks_authors,
            is_binary=is_binary,
            rendered=rendered,
        )
    )

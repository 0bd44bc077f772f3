"""Giving back the space of expunged messages, in slices, once they were kept for a while."""

from pillarbox.store import changes, keywords
from pillarbox.store.content import PIECE_BITS
from pillarbox.store.tx import Tx

KEPT_S = 7 * 86400
"""Seconds that an expunged message can still be brought back."""

SLICE = 256
"""Contents that one unit of work deletes."""

_BY_CONTENT = ("rendered", "fields", "octets", "line_end", "sort_key", "expunged")


def find_reclaimable(tx: Tx) -> list[int]:
    """Contents that no message has any more and that were expunged long enough ago. In a read.

    A content without a message cannot get one again, so what is found stays true; what has one is left alone.
    """
    rows = tx.rows(
        "SELECT content FROM expunged WHERE account = ? AND expunged_at < ?"
        " AND content NOT IN (SELECT content FROM message WHERE account = ?)",
        (tx.account, tx.now_s - KEPT_S, tx.account),
    )
    return [row[0] for row in rows]


def reclaim(tx: Tx, contents: list[int]) -> None:
    """Delete at most SLICE contents found by `find_reclaimable`."""
    for content in contents:
        tx.execute(
            "DELETE FROM body_piece WHERE id BETWEEN ? AND ?",
            (content << PIECE_BITS, ((content + 1) << PIECE_BITS) - 1),
        )
        for table in _BY_CONTENT:
            tx.execute(f"DELETE FROM {table} WHERE content = ?", (content,))


def forget_old(tx: Tx) -> None:
    """Drop notes that serve no more: contents that live on in other mailboxes, old delivery keys and flag changes,
    unused sets of keywords."""
    tx.execute(
        "DELETE FROM expunged WHERE account = ? AND expunged_at < ?"
        " AND content IN (SELECT content FROM message WHERE account = ?)",
        (tx.account, tx.now_s - KEPT_S, tx.account),
    )
    tx.execute(
        "DELETE FROM delivered WHERE account = ? AND delivered_at < ?",
        (tx.account, tx.now_s - 4 * KEPT_S),
    )
    keywords.forget_some(tx)
    for (mailbox,) in tx.rows("SELECT mailbox FROM mailbox WHERE account = ?", (tx.account,)):
        changes.trim(tx, mailbox)

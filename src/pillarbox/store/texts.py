"""The octets of a content in an account's file, as a repair reads and writes them: with all that is rendered from
them."""

from pillarbox.store import appending
from pillarbox.store.content import PIECE_BITS, make_content
from pillarbox.store.tx import Tx


def read_text(tx: Tx, content: int) -> bytes:
    """All octets that there are."""
    row = tx.row("SELECT header, body FROM octets WHERE content = ?", (content,))
    pieces = tx.rows(
        "SELECT octets FROM body_piece WHERE id BETWEEN ? AND ? ORDER BY id", pieces_of(content)
    )
    return b"".join((*(row or ()), *(piece for (piece,) in pieces)))


def last_octet(tx: Tx, content: int) -> bytes:
    """Of its octets; empty if there are none."""
    row = tx.row(
        "SELECT substr(octets, -1) FROM body_piece WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
        pieces_of(content),
    ) or tx.row(
        "SELECT substr(CASE WHEN length(body) THEN body ELSE header END, -1) FROM octets"
        " WHERE content = ?",
        (content,),
    )
    return bytes(row[0]) if row else b""


def write_text(tx: Tx, content: int, octets: bytes) -> None:
    """In place of what there is of it."""
    tx.execute("DELETE FROM body_piece WHERE id BETWEEN ? AND ?", pieces_of(content))
    for table in ("octets", "rendered", "fields", "sort_key", "line_end"):
        tx.execute(f"DELETE FROM {table} WHERE content = ?", (content,))
    known = make_content(octets)
    appending.insert_contents(tx, [(content, known, b"")])
    appending.insert_further_pieces(tx, known, content)


def pieces_of(content: int) -> tuple[int, int]:
    """The first and the last id that its further pieces may have."""
    return content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1

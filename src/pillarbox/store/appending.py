"""Adding messages to mailboxes, with all that is kept of them beside their octets.

Done by `store.append` and its like, which make it durable.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pillarbox.core import flags as flag
from pillarbox.core.errors import Refused
from pillarbox.store import keywords
from pillarbox.store.content import PIECE_BITS, Content, Rendered
from pillarbox.store.messages import MOST_UIDS
from pillarbox.store.numbers import (
    HIGHEST_CONTENT,
    HIGHEST_MAILBOX,
    HIGHEST_MODSEQ,
    HIGHEST_UIDNEXT,
    HIGHEST_UIDVALIDITY,
    ensure_can_be,
)
from pillarbox.store.quota import Quota, ensure_within
from pillarbox.store.tx import Tx

MOST_OCTETS_COPIED = 1 << 20
"""Of messages whose rows are made together; one more may go beyond that."""

_MOST_THREAD_REFERENCES = 20


@dataclass(slots=True)
class Append:
    """What a delivery or APPEND does to an account."""

    mailbox: int
    content: Content
    internaldate: int
    """A packed date (core.dates)."""
    flags: int = 0
    """System flags only."""
    keywords: tuple[bytes, ...] = ()
    prefix: bytes = b""
    """Whole header fields put in front of the message for this mailbox."""
    delivery_key: str = ""
    """With a key, the same delivery done again adds nothing."""
    quota: Quota | None = None
    """With one, the message is only taken while the account stays within it."""
    queue_id: str = ""
    """Under which the trace knows it, "" for none."""
    is_guest: bool = False
    """It is put here by somebody who has an account of his own, and less room for new keywords."""
    claims_recent: bool = False
    """The session that puts it here is told of it: it is \\Recent there, and to nobody else (`Appended.is_claimed`)."""

    @property
    def size(self) -> int:
        """Octets as clients see it (RFC822.SIZE)."""
        return len(self.prefix) + len(self.content.octets)


@dataclass(slots=True)
class Appended:
    """Where an appended message is. A uid of 0: it was there before (same delivery key)."""

    mailbox: int
    uidvalidity: int
    uid: int
    modseq: int
    is_claimed: bool = False
    """It is \\Recent to nobody any more; where older messages are, who claims those claims it with them."""


@dataclass(slots=True)
class Added:
    """A message with all that is given to it at its append, or taken from the journal on replay."""

    item: Append
    uid: int
    modseq: int
    content: int
    savedate: int
    is_staged: bool = False
    """The further pieces of its body are in the file already."""


def append(tx: Tx, item: Append, staged_content: int = 0) -> Appended:
    """Add one message, see `append_all`. `staged_content`: its body is in the file already under this number."""
    return append_all(tx, [item], {0: staged_content} if staged_content else {})[0]


def append_all(tx: Tx, items: Sequence[Append], staged: Mapping[int, int]) -> list[Appended]:
    """Add messages; their numbers follow one another. `staged`: by place in `items`, the number under which a body is
    in the file already.

    Raises Refused TRYCREATE when a mailbox is gone, LIMIT when its UIDs are used up or there are too many keywords,
    OVERQUOTA; Unavailable where the numbers in the file cannot be.
    """
    words = [name for item in items for name in item.keywords]
    keywords.ensure_room(tx, words, is_guest=any(item.is_guest for item in items))
    done = [Appended(item.mailbox, 0, 0, 0) for item in items]
    new = [place for place, item in enumerate(items) if _is_new(tx, item)]
    if not new:
        return done
    state = tx.row(
        "UPDATE account_state SET modseq = modseq + ?1, next_content = next_content + ?1,"
        " messages = messages + ?1, octets = octets + ?2 WHERE account = ?3"
        " RETURNING modseq - ?1 + 1, next_content - ?1",
        (len(new), sum(items[place].size for place in new), tx.account),
    )
    assert state is not None
    first_modseq, first_content = state
    ensure_can_be(first_modseq, HIGHEST_MODSEQ)
    ensure_can_be(first_content, HIGHEST_CONTENT)
    by_mailbox: dict[int, list[int]] = {}
    for place in new:
        by_mailbox.setdefault(items[place].mailbox, []).append(place)
    for modseq, place in enumerate(new, first_modseq):
        done[place].modseq = modseq
    for mailbox, places in by_mailbox.items():
        _give_uids(tx, mailbox, [(items[place], done[place]) for place in places])
    for quota in {item.quota for item in items if item.quota is not None}:
        ensure_within(tx, quota)
    insert_messages(
        tx,
        [
            Added(
                items[place],
                done[place].uid,
                done[place].modseq,
                staged.get(place, content),
                tx.now_s,
                place in staged,
            )
            for content, place in enumerate(new, first_content)
        ],
    )
    for place in new:
        if place in staged:  # that of a message that is not new is reclaimed
            tx.execute("DELETE FROM staged WHERE content = ?", (staged[place],))
    return done


def _is_new(tx: Tx, item: Append) -> bool:
    """Whether it was not delivered before; from now on it was."""
    key = item.delivery_key
    if not key:
        return True
    if tx.row("SELECT 1 FROM delivered WHERE account = ? AND key = ?", (tx.account, key)):
        return False
    tx.execute("INSERT INTO delivered VALUES (?, ?, ?)", (tx.account, key, tx.now_s))
    return True


def _give_uids(tx: Tx, mailbox: int, messages: Sequence[tuple[Append, Appended]]) -> None:
    """UIDs for messages whose ModSeqs are given, and the counts of their mailbox."""
    items = [item for item, _ in messages]
    row = tx.row(
        "UPDATE mailbox SET uidnext = uidnext + ?1, messages = messages + ?1, unseen = unseen + ?2,"
        " deleted = deleted + ?3, octets = octets + ?4, modseq = ?5,"
        " recent_uid = recent_uid + ?1 * (?8 AND recent_uid = uidnext)"
        " WHERE account = ?6 AND mailbox = ?7"
        " RETURNING uidnext - ?1, uidvalidity, recent_uid = uidnext",
        (
            len(items),
            sum(not item.flags & flag.SEEN for item in items),
            sum(bool(item.flags & flag.DELETED) for item in items),
            sum(item.size for item in items),
            messages[-1][1].modseq,
            tx.account,
            mailbox,
            all(item.claims_recent for item in items),
        ),
    )
    if row is None:
        raise Refused("there is no such mailbox", "TRYCREATE")
    first_uid, uidvalidity, is_claimed = row
    ensure_can_be(mailbox, HIGHEST_MAILBOX)
    ensure_can_be(uidvalidity, HIGHEST_UIDVALIDITY)
    ensure_can_be(first_uid, HIGHEST_UIDNEXT)
    if first_uid + len(items) - 1 > MOST_UIDS:
        raise Refused("the mailbox has used all its numbers; move its mail to another", "LIMIT")
    for uid, (_, given) in enumerate(messages, first_uid):
        given.uid, given.uidvalidity, given.is_claimed = uid, uidvalidity, bool(is_claimed)
    tx.changed.add(mailbox)


def insert_messages(tx: Tx, messages: Sequence[Added]) -> None:
    """The rows of new messages."""
    tx.connection.executemany(
        "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        [
            (
                tx.account,
                added.item.mailbox,
                added.uid,
                added.content,
                added.item.flags | keywords.set_id(tx, added.item.keywords) << flag.KEYWORD_SHIFT,
                added.modseq,
                added.item.size,
                added.item.internaldate,
                added.savedate,
            )
            for added in messages
        ],
    )
    for part in _parts(messages):
        insert_contents(
            tx, [(added.content, added.item.content, added.item.prefix) for added in part]
        )
    for added in messages:
        if not added.is_staged:
            insert_further_pieces(tx, added.item.content, added.content)


def _parts(messages: Sequence[Added]) -> Iterator[Sequence[Added]]:
    """As many one after the other as are copied at a time."""
    start = octets = 0
    for place, added in enumerate(messages, 1):
        octets += added.item.size
        if octets >= MOST_OCTETS_COPIED:
            yield messages[start:place]
            start, octets = place, 0
    if start < len(messages):
        yield messages[start:]


def insert_contents(tx: Tx, contents: Sequence[tuple[int, Content, bytes]]) -> None:
    """What is kept by content, each with its number and the fields in front of it, but for the further pieces of its
    body. One table after the other, so that its pages are at hand."""
    account, execute_many = tx.account, tx.connection.executemany
    made = [(number, content, content.rendered, prefix) for number, content, prefix in contents]
    execute_many(
        "INSERT INTO rendered VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                account,
                number,
                len(prefix) + content.header_size,
                len(prefix) + len(content.octets),
                _thread(tx, rendered, number),
                rendered.envelope,
                rendered.bodystructure,
                rendered.preview,
            )
            for number, content, rendered, prefix in made
        ],
    )
    execute_many(
        "INSERT INTO fields VALUES (?, ?, ?, ?)",
        [
            (account, number, rendered.shape, rendered.fields)
            for number, _content, rendered, _prefix in made
        ],
    )
    execute_many(
        "INSERT INTO octets VALUES (?, ?, ?, ?, ?)",
        [
            (account, number, prefix + content.header, rendered.parts, content.body_piece(0))
            for number, content, rendered, prefix in made
        ],
    )
    execute_many(
        "INSERT INTO line_end VALUES (?, ?, ?)",
        [
            (account, number, rendered.line_ends_added)
            for number, _content, rendered, _prefix in made
            if rendered.line_ends_added
        ],
    )
    execute_many(
        "INSERT INTO sort_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                account,
                number,
                rendered.sent,
                rendered.subject,
                rendered.is_reply,
                rendered.from_key,
                rendered.to_key,
                rendered.cc_key,
                rendered.message_id,
                array("q", rendered.references).tobytes(),
            )
            for number, _content, rendered, _prefix in made
        ],
    )


def insert_further_pieces(tx: Tx, content: Content, number: int) -> None:
    """The pieces of the body of content `number` from the second on."""
    for piece in range(1, content.pieces):
        insert_body_piece(tx, content, number, piece)


def insert_body_piece(tx: Tx, content: Content, number: int, piece: int) -> None:
    """A piece of the body of content `number`, from 1 on."""
    tx.execute(
        "INSERT INTO body_piece VALUES (?, ?, ?)",
        (tx.account, number << PIECE_BITS | piece, content.body_piece(piece)),
    )


def next_content(tx: Tx) -> int:
    """A content number that is given to nothing else."""
    row = tx.row(
        "UPDATE account_state SET next_content = next_content + 1 WHERE account = ?"
        " RETURNING next_content - 1",
        (tx.account,),
    )
    assert row is not None
    return int(row[0])


def stage(tx: Tx) -> int:
    """Take a content number for a body that will be written in several steps."""
    content = next_content(tx)
    tx.execute("INSERT INTO staged VALUES (?, ?)", (tx.account, content))
    return content


def staged(tx: Tx) -> frozenset[int]:
    """Contents that are being written in several steps."""
    rows = tx.rows("SELECT content FROM staged WHERE account = ?", (tx.account,))
    return frozenset(row[0] for row in rows)


def discard_staged(tx: Tx, content: int) -> None:
    """Give up a staged body."""
    tx.execute(
        "DELETE FROM body_piece WHERE id BETWEEN ? AND ?",
        (content << PIECE_BITS, (content + 1 << PIECE_BITS) - 1),
    )
    tx.execute("DELETE FROM staged WHERE content = ?", (content,))


def _thread(tx: Tx, rendered: Rendered, number: int) -> int:
    """The THREADID (RFC 8474 §5.2): that of any message it refers to or that refers to it, else a new one."""
    known = rendered.references[-_MOST_THREAD_REFERENCES:]
    if rendered.message_id:
        known = (rendered.message_id, *known)
    if not known:
        return number
    row = tx.row(
        f"SELECT min(thread) FROM thread WHERE message_id IN ({','.join('?' * len(known))})", known
    )
    thread = number if row is None or row[0] is None else int(row[0])
    for message_id in known:
        tx.execute(
            "INSERT OR IGNORE INTO thread VALUES (?, ?, ?)", (tx.account, message_id, thread)
        )
    return thread

"""The rows that were saved from a damaged account file, made to agree with each other; what is known to be lost.

What is derived from a message's octets is made anew where it is missing. Done in the transaction that saves the rows.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from pillarbox.core.dates import pack_date
from pillarbox.store import appending, mailboxes
from pillarbox.store.appending import Append, Appended
from pillarbox.store.content import PIECE_BITS, count_line_ends_added, make_content
from pillarbox.store.journaled import (
    UNKNOWN_MODSEQ,
    Figures,
    Journaled,
    Known,
    Lost,
    give_texts,
    put_missing,
    raise_numbers,
)
from pillarbox.store.mailboxes import Name
from pillarbox.store.numbers import BELIEVED_CONTENT
from pillarbox.store.renumber import MAILBOXES_SKIPPED
from pillarbox.store.strays import Found
from pillarbox.store.texts import last_octet, pieces_of, read_text, write_text
from pillarbox.store.tx import Tx

RECOVERED = "Recovered"
"""The mailbox of messages whose place is lost."""


@dataclass(slots=True)
class Salvaged:
    """What became of an account's mail."""

    saved: int = 0
    """Messages in their places."""
    unflagged: int = 0
    """Of these: without their flags and the date they came, which are lost."""
    recovered: int = 0
    """In the mailbox RECOVERED."""
    may_be_old: bool = False
    """Some messages may be ones that were deleted before the damage, and kept in the file a while."""
    from_journal: int = 0
    """Messages in their mailboxes that only the journals had."""
    filed: list[tuple[Append, Appended]] = field(default_factory=list)
    """What of those had no numbers yet, with the UIDs that it has now."""
    lost: dict[str, int] = field(default_factory=dict)
    """By mailbox, as people write it: messages that are no more in it. Empty if all are in RECOVERED."""
    is_uncounted: bool = False
    """What mailboxes had is not known, so neither is what is lost."""
    unshared: list[tuple[str, list[int]]] = field(default_factory=list)
    """Mailboxes whose names are lost, and who had rights there (`acl`): the name that it has now, "" if it is gone."""
    gone: list[str] = field(default_factory=list)
    """Names that are subscribed, and of no mailbox, where some may be lost."""


def mend(tx: Tx, unread: Collection[str], found: Found, journaled: Journaled) -> Salvaged:
    """Make the rows agree with each other, and put in what the journals have. `unread`: the tables and indexes of which
    rows may be missing; `found`: of the rows from pages that no b-tree led to. The temporary tables `place` (mailbox,
    uid, content) and `named` (mailbox, name) have what indexes say of messages and mailboxes."""
    result = Salvaged(may_be_old=found.may_be_old)
    state = tx.row("SELECT messages, modseq FROM account_state", ())
    total, modseq = map(int, state) if state else (None, _highest_modseq(tx))
    counted = dict(tx.rows("SELECT mailbox, messages FROM mailbox", ()))
    named = dict(tx.rows("SELECT mailbox, name FROM named", ()))
    whole = _mend_contents(tx, has_line_ends="line_end" not in unread)
    has_all_texts = not {"octets", "body_piece"} & set(unread) and not tx.row(
        "SELECT 1 FROM octets LIMIT 1 OFFSET ?", (len(whole),)
    )
    result.unflagged = _place(tx, whole)
    had = _by_mailbox(tx)
    has_all = not found.has_doubtful_messages and (
        "message" not in unread if total is None else had.total() >= total
    )
    _mend_state(tx, named, result)
    if "mailbox" in unread:
        result.gone = [
            "/".join(name) for name in mailboxes.subscriptions(tx) if not mailboxes.find(tx, name)
        ]
    raise_numbers(tx, journaled.numbered)
    give_texts(tx, journaled.numbered, whole)
    lost = _mend_messages(tx, whole)
    has_all_figures = has_all and not any(size == 0 for _, size in lost)
    _mend_keywords(tx)
    if "thread" in unread:
        _mend_threads(tx)
    left = _by_mailbox(tx)
    result.saved = left.total()
    known = Known(
        unread, found.expunges, modseq, state is not None, has_all_figures, has_all_texts, lost
    )
    put = put_missing(tx, journaled, whole, known)
    result.from_journal, result.filed = put.placed, put.filed
    _count(tx)
    unplaced = _unplaced(tx, whole) if lost or not has_all else []
    # Mail that was moved lost a row, too: it is among what lost one if the others are not enough.
    doubtful = []
    rows = sum(counted.values()) if total is None and "mailbox" not in unread else total
    if not has_all and (rows is None or had.total() + len(unplaced) < rows):
        doubtful = _unplaced(tx, whole, are_expunged=True)
    result.recovered = _recover(tx, [*unplaced, *doubtful], put.homeless)
    _drop_unplaced(tx)
    is_old = doubtful or (unplaced and "expunged" in unread)
    result.may_be_old |= put.may_be_old or bool(is_old)
    for mailbox, name in tx.rows("SELECT mailbox, name FROM mailbox", ()):
        count = max(counted.get(mailbox, 0), had[mailbox]) - left[mailbox] - put.back[mailbox]
        if count > 0:
            result.lost[name.replace("\x1f", "/")] = count
    # Mailboxes of which nothing at all is left would be missing here.
    has_counts = "mailbox" not in unread or (
        "mailbox_name" not in unread and named.keys() <= counted.keys()
    )
    in_all = result.saved + put.back.total() + (0 if result.may_be_old else result.recovered)
    if total is None and has_counts:
        total = result.saved + put.back.total() + sum(result.lost.values())
    if (total is not None and in_all >= total) or has_all_texts:
        result.lost = {}
    else:
        result.is_uncounted = not has_counts and not has_all
    return result


def _highest_modseq(tx: Tx) -> int:
    """Of all rows that there are."""
    row = tx.row(
        "SELECT max((SELECT coalesce(max(modseq), 0) FROM message),"
        " (SELECT coalesce(max(modseq), 0) FROM mailbox))",
        (),
    )
    assert row is not None
    return int(row[0])


def _by_mailbox(tx: Tx) -> Counter[int]:
    return Counter(dict(tx.rows("SELECT mailbox, count(*) FROM message GROUP BY mailbox", ())))


def _place(tx: Tx, whole: set[int]) -> int:
    """Put messages of which only the place is known there; how many of them have their octets."""
    placed = 0
    for mailbox, uid, content in tx.rows("SELECT DISTINCT mailbox, uid, content FROM place", ()):
        tx.execute(
            "INSERT OR IGNORE INTO message VALUES (?1, ?2, ?3, ?4, 0, ?7, 0,"
            " coalesce((SELECT sent FROM sort_key WHERE content = ?4), ?5), ?6, NULL)",
            (tx.account, mailbox, uid, content, pack_date(tx.now_s, 0), tx.now_s, UNKNOWN_MODSEQ),
        )
        placed += tx.connection.changes() and content in whole
    return placed


def _mend_state(tx: Tx, named: dict[int, str], result: Salvaged) -> None:
    """The account's own row, and mailboxes for all messages and names."""
    is_new = not tx.row("SELECT 1 FROM account_state", ())
    if is_new:
        tx.execute(
            "INSERT INTO account_state VALUES (?, 1, 1, 2, ?, 0, 0, 0)", (tx.account, tx.now_s)
        )
    _raise_numbers(tx)
    # What goes by the number of a mailbox that is lost may be in journals and in pages that nobody reads, too: none of
    # those that are made here gets it.
    tx.execute("UPDATE account_state SET next_mailbox = next_mailbox + ?", (MAILBOXES_SKIPPED,))
    rows = tx.rows("SELECT DISTINCT mailbox FROM message", ())
    known = {row[0] for row in tx.rows("SELECT mailbox FROM mailbox", ())}
    tx.execute(
        "UPDATE OR IGNORE mailbox SET name = ? WHERE mailbox = ?",
        (mailboxes.INBOX_NAME[0], mailboxes.INBOX),
    )
    wanted = {mailboxes.INBOX, *named, *(row[0] for row in rows)}
    for mailbox in sorted(wanted - known):
        _make_mailbox(tx, mailbox, named.get(mailbox, ""))
    _unshare(tx, known | named.keys() | {mailboxes.INBOX}, result)
    _raise_numbers(tx)
    if is_new:
        for first, special_use in mailboxes.FIRST_MAILBOXES:
            if mailboxes.find(tx, (first,)) is None:
                mailboxes.create(tx, (first,), special_use)


def _unshare(tx: Tx, known: Collection[int], result: Salvaged) -> None:
    """Leave nobody rights in a mailbox that nobody knows by its name: what is put there may be any mail."""
    lost: dict[int, list[int]] = {}
    for mailbox, grantee in tx.rows("SELECT mailbox, grantee FROM acl ORDER BY mailbox", ()):
        if mailbox not in known:
            lost.setdefault(mailbox, []).append(grantee)
    for mailbox, grantees in lost.items():
        row = tx.row("SELECT name FROM mailbox WHERE mailbox = ?", (mailbox,))
        result.unshared.append((row[0] if row else "", grantees))
        tx.execute("DELETE FROM acl WHERE account = ? AND mailbox = ?", (tx.account, mailbox))
    # Those of mailbox 0 are the account's own.
    tx.execute(
        "DELETE FROM metadata WHERE mailbox != 0 AND mailbox NOT IN (SELECT mailbox FROM mailbox)",
        (),
    )


def _raise_numbers(tx: Tx) -> None:
    """Above all that were given."""
    tables = ("octets", "rendered", "fields", "sort_key", "line_end", "expunged", "message")
    contents = " UNION ALL ".join(
        f"SELECT max(content) AS content FROM {name} WHERE content <= {BELIEVED_CONTENT}"
        for name in tables
    )
    tx.execute(
        "UPDATE account_state SET"
        " modseq = max(modseq, (SELECT coalesce(max(modseq), 0) FROM message)),"
        f" next_content = max(next_content, 1 + (SELECT coalesce(max(content), 0) FROM ({contents}))),"
        " next_mailbox = max(next_mailbox, 1 + (SELECT coalesce(max(mailbox), 0) FROM message),"
        " 1 + (SELECT coalesce(max(mailbox), 0) FROM mailbox)),"
        " uidvalidity = max(uidvalidity, (SELECT coalesce(max(uidvalidity), 0) FROM mailbox))",
        (),
    )


def _make_mailbox(tx: Tx, mailbox: int, name: str) -> None:
    """One with this number; "": its name is lost."""
    if mailbox == mailboxes.INBOX:
        name = mailboxes.INBOX_NAME[0]
    elif not name or tx.row("SELECT 1 FROM mailbox WHERE name = ?", (name,)):
        (name,) = _free(tx, f"{RECOVERED} {mailbox}")
    use = dict(mailboxes.FIRST_MAILBOXES).get(name, "")
    if use and tx.row("SELECT 1 FROM mailbox WHERE special_use = ?", (use,)):
        use = ""
    state = tx.row(
        "UPDATE account_state SET modseq = modseq + 1, uidvalidity = max(uidvalidity + 1, ?)"
        " RETURNING uidvalidity, modseq",
        (tx.now_s,),
    )
    assert state is not None
    tx.execute(
        "INSERT INTO mailbox VALUES (?, ?, ?, ?, 1, 1, 0, 0, 0, 0, ?, ?, ?)",
        (tx.account, mailbox, name, *state, state[1], use),
    )


def _mend_contents(tx: Tx, *, has_line_ends: bool) -> set[int]:
    """Make anew what is rendered and missing; the contents that are whole."""
    whole = set()
    rows = tx.rows("SELECT content, length(header) + length(body) FROM octets", ())
    for content, octets in rows:
        known = tx.row("SELECT size FROM rendered WHERE content = ?", (content,)) or tx.row(
            "SELECT size FROM message WHERE content = ?", (content,)
        )
        pieces = tx.row(
            "SELECT coalesce(sum(length(octets)), 0), count(*), coalesce(max(id), 0) FROM body_piece"
            " WHERE id BETWEEN ? AND ?",
            pieces_of(content),
        )
        assert pieces is not None
        # Where nobody knows how long it was, pieces without a gap are taken for all of it.
        has_gap = pieces[1] and pieces[2] != (content << PIECE_BITS | pieces[1])
        if has_gap or (known is not None and known[0] != octets + pieces[0]):
            continue
        if last_octet(tx, content) == b"\0" and not tx.row(
            "SELECT 1 FROM line_end WHERE content = ?", (content,)
        ):  # its last page is lost: a last line that has no end would be counted there
            continue
        is_new = _render_again(tx, content)
        if not (is_new or has_line_ends):
            _count_line_ends(tx, content)
        whole.add(content)
    return whole


def _render_again(tx: Tx, content: int) -> bool:
    """Unless all that belongs to a content is there; whether it was not."""
    row = tx.row(
        "SELECT EXISTS (SELECT 1 FROM rendered WHERE content = ?1)"
        " AND EXISTS (SELECT 1 FROM fields WHERE content = ?1)"
        " AND EXISTS (SELECT 1 FROM sort_key WHERE content = ?1)",
        (content,),
    )
    if row == (1,):
        return False
    write_text(tx, content, read_text(tx, content))
    return True


def _count_line_ends(tx: Tx, content: int) -> None:
    """Where it is not known that the lack of a row means none."""
    added = count_line_ends_added(read_text(tx, content))
    tx.execute("DELETE FROM line_end WHERE content = ?", (content,))
    if added:
        tx.execute("INSERT INTO line_end VALUES (?, ?, ?)", (tx.account, content, added))


def _mend_messages(tx: Tx, whole: set[int]) -> dict[Figures, list[Lost]]:
    """Leave those whose octets are whole, with flags that exist; what is known of the others."""
    lost: dict[Figures, dict[int, Lost]] = {}
    rows = tx.rows("SELECT mailbox, uid, content, internaldate, size FROM message", ())
    for mailbox, uid, content, internaldate, size in rows:
        if content not in whole:
            row = tx.row("SELECT envelope FROM rendered WHERE content = ?", (content,))
            by_content = lost.setdefault((internaldate, size), {})
            own = by_content.setdefault(content, Lost(row[0] if row else None))
            own.mailboxes.append(mailbox)
            tx.execute(
                "DELETE FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
                (tx.account, mailbox, uid),
            )
    tx.execute(
        "UPDATE message SET size = (SELECT size FROM rendered AS r WHERE r.content = message.content)",
        (),
    )
    tx.execute(
        "UPDATE message SET flags = flags & 31 WHERE flags >> 5 != 0"
        " AND flags >> 5 NOT IN (SELECT id FROM keyword_set)",
        (),
    )
    return {figures: list(by_content.values()) for figures, by_content in lost.items()}


def _mend_keywords(tx: Tx) -> None:
    """All that are in a set are known."""
    for (names,) in tx.rows("SELECT names FROM keyword_set", ()):
        for name in names.split():
            tx.execute(
                "INSERT OR IGNORE INTO keyword VALUES (?, ?, ?)", (tx.account, name.lower(), name)
            )


def _mend_threads(tx: Tx) -> None:
    """What later mail finds its thread by."""
    tx.execute(
        "INSERT OR IGNORE INTO thread SELECT k.account, k.message_id, r.thread FROM sort_key AS k"
        " JOIN rendered AS r ON r.content = k.content WHERE k.message_id != 0",
        (),
    )


def _count(tx: Tx) -> None:
    """What mailboxes and the account count."""
    of_mailbox = (
        "FROM message AS m WHERE m.account = mailbox.account AND m.mailbox = mailbox.mailbox)"
    )
    tx.execute(
        f"UPDATE mailbox SET messages = (SELECT count(*) {of_mailbox},"
        f" unseen = (SELECT coalesce(sum(flags & 8 = 0), 0) {of_mailbox},"
        f" deleted = (SELECT coalesce(sum(flags & 4 != 0), 0) {of_mailbox},"
        f" octets = (SELECT coalesce(sum(size), 0) {of_mailbox},"
        f" uidnext = max(uidnext, 1 + (SELECT coalesce(max(uid), 0) {of_mailbox})",
        (),
    )
    tx.execute(
        "UPDATE account_state SET messages = (SELECT count(*) FROM message),"
        " octets = (SELECT coalesce(sum(size), 0) FROM message)",
        (),
    )
    tx.execute("UPDATE mailbox SET change_floor = (SELECT modseq FROM account_state)", ())


def _unplaced(tx: Tx, whole: set[int], *, are_expunged: bool = False) -> list[int]:
    """Contents that no message has; only those that lost one (`are_expunged`), or only others."""
    placed = {row[0] for row in tx.rows("SELECT content FROM message", ())}
    expunged = {row[0] for row in tx.rows("SELECT content FROM expunged", ())}
    return sorted((whole & expunged if are_expunged else whole - expunged) - placed)


def _recover(tx: Tx, contents: Sequence[int], homeless: Sequence[Append]) -> int:
    """Append octets that belong to no message to a mailbox of their own, and those messages; how many that were."""
    if contents or homeless:
        target = mailboxes.create(tx, _free(tx, RECOVERED))
        for content in contents:
            item = Append(target.id, make_content(read_text(tx, content)), pack_date(tx.now_s, 0))
            appending.append(tx, item)
        for item in homeless:
            appending.append(tx, replace(item, mailbox=target.id))
    return len(contents) + len(homeless)


def _drop_unplaced(tx: Tx) -> None:
    """Octets that no message has are given up after a while, and what has no octets is at once."""
    tx.execute(
        "INSERT OR IGNORE INTO expunged SELECT account, content, ? FROM octets"
        " WHERE content NOT IN (SELECT content FROM message)",
        (tx.now_s,),
    )
    for table in ("rendered", "fields", "sort_key", "line_end", "expunged"):
        tx.execute(f"DELETE FROM {table} WHERE content NOT IN (SELECT content FROM octets)", ())
    tx.execute(
        f"DELETE FROM body_piece WHERE id >> {PIECE_BITS} NOT IN (SELECT content FROM octets)", ()
    )


def _free(tx: Tx, wanted: str) -> Name:
    """A name that no mailbox has."""
    number, name = 1, (wanted,)
    while mailboxes.find(tx, name) is not None:
        number += 1
        name = (f"{wanted} ({number})",)
    return name

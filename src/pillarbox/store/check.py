"""`pillarbox check`: reads a whole store and says what is wrong, in plain words. Changes nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from pillarbox.core.errors import Failure, Refused
from pillarbox.store import database, journal
from pillarbox.store.accounts import account_path, lock_path
from pillarbox.store.content import PIECE_BITS
from pillarbox.store.damage import how_to_mend, how_to_repair
from pillarbox.store.directory import ensure_not_lost
from pillarbox.store.lacking import find_missing
from pillarbox.store.mailboxes import INBOX, INBOX_NAME
from pillarbox.store.numbers import (
    HIGHEST_CONTENT,
    HIGHEST_GENERATION,
    HIGHEST_MAILBOX,
    HIGHEST_MODSEQ,
    HIGHEST_UID,
    HIGHEST_UIDNEXT,
    HIGHEST_UIDVALIDITY,
)
from pillarbox.store.owned import may_look

_SINGLE = ("directory.db", "queue.db")


def _cannot_be(*columns: tuple[str, int], lowest: int = 1) -> str:
    return " OR ".join(
        f"typeof({column}) != 'integer' OR {column} NOT BETWEEN {lowest} AND {highest}"
        for column, highest in columns
    )


def _of_other_types(table: str, *columns: str) -> tuple[str, str]:
    """A rule: these have whole numbers. SQLite keeps in a column whatever a damaged page has there."""
    where = " OR ".join(f"typeof({column}) != 'integer'" for column in columns)
    what = f"the table {table} has what is no number in place of one"
    return f"SELECT '{what}' FROM (SELECT 1 FROM {table} WHERE {where} LIMIT 1)", "types"


_RULES: tuple[tuple[str, str], ...] = (
    _of_other_types("account_state", "messages", "octets"),
    _of_other_types(
        "mailbox", "recent_uid", "messages", "unseen", "deleted", "octets", "change_floor"
    ),
    _of_other_types("message", "flags", "size", "internaldate", "savedate"),
    (
        "SELECT 'a mailbox has no name' FROM mailbox WHERE typeof(name) != 'text' OR name = ''"
        f" OR (mailbox = {INBOX}) != (name = '{INBOX_NAME[0]}')",
        "names",
    ),
    (
        "SELECT 'the account has numbers that cannot be' FROM account_state WHERE "
        + _cannot_be(
            ("modseq", HIGHEST_MODSEQ),
            ("next_content", HIGHEST_CONTENT),
            ("next_mailbox", HIGHEST_MAILBOX),
            ("uidvalidity", HIGHEST_UIDVALIDITY),
        )
        + " OR "
        + _cannot_be(("generation", HIGHEST_GENERATION), lowest=0),
        "numbers of the account",
    ),
    (
        "SELECT 'the mailbox ' || name || ' has numbers that cannot be' FROM mailbox WHERE "
        + _cannot_be(
            ("mailbox", HIGHEST_MAILBOX),
            ("uidvalidity", HIGHEST_UIDVALIDITY),
            ("uidnext", HIGHEST_UIDNEXT),
            ("modseq", HIGHEST_MODSEQ),
        ),
        "numbers of mailboxes",
    ),
    (
        "SELECT 'the message UID ' || uid || ' in mailbox ' || mailbox || ' has numbers that cannot be'"
        " FROM message WHERE "
        + _cannot_be(
            ("uid", HIGHEST_UID), ("modseq", HIGHEST_MODSEQ), ("content", HIGHEST_CONTENT)
        ),
        "numbers of messages",
    ),
    (
        "SELECT 'the mailbox ' || name || ' counts ' || messages || ' messages, but has ' ||"
        " (SELECT count(*) FROM message AS m WHERE m.account = b.account AND m.mailbox = b.mailbox)"
        " FROM mailbox AS b WHERE messages !="
        " (SELECT count(*) FROM message AS m WHERE m.account = b.account AND m.mailbox = b.mailbox)",
        "message counts",
    ),
    (
        "SELECT 'the mailbox ' || name || ' counts ' || octets || ' octets, but its messages have ' || total"
        " FROM (SELECT name, octets, (SELECT coalesce(sum(size), 0) FROM message AS m"
        " WHERE m.account = b.account AND m.mailbox = b.mailbox) AS total FROM mailbox AS b) WHERE octets != total",
        "octet counts",
    ),
    (
        "SELECT 'the mailbox ' || name || ' counts its unseen or deleted messages wrongly' FROM mailbox AS b"
        " WHERE (unseen, deleted) != (SELECT coalesce(sum(flags & 8 = 0), 0), coalesce(sum(flags & 4 != 0), 0)"
        " FROM message AS m WHERE m.account = b.account AND m.mailbox = b.mailbox)",
        "flag counts",
    ),
    (
        "SELECT 'the mailbox ' || name || ' would give the number ' || uidnext || ' again' FROM mailbox AS b"
        " WHERE uidnext <= (SELECT max(uid) FROM message AS m WHERE m.account = b.account AND m.mailbox = b.mailbox)",
        "UIDNEXT",
    ),
    (
        "SELECT 'a message in mailbox ' || mailbox || ' (UID ' || uid || ') is in no mailbox that exists'"
        " FROM message AS m WHERE NOT EXISTS"
        " (SELECT 1 FROM mailbox AS b WHERE b.account = m.account AND b.mailbox = m.mailbox)",
        "messages without a mailbox",
    ),
    (
        "SELECT 'the message UID ' || uid || ' in mailbox ' || mailbox || ' has lost its ' || CASE"
        " WHEN r.content IS NULL THEN 'structure' WHEN o.content IS NULL THEN 'text'"
        " WHEN f.content IS NULL THEN 'header fields' ELSE 'sort keys' END"
        " FROM message AS m LEFT JOIN rendered AS r ON r.content = m.content"
        " LEFT JOIN octets AS o ON o.content = m.content LEFT JOIN fields AS f ON f.content = m.content"
        " LEFT JOIN sort_key AS k ON k.content = m.content WHERE r.content IS NULL OR o.content IS NULL"
        " OR f.content IS NULL OR k.content IS NULL",
        "contents",
    ),
    (
        "SELECT 'the message UID ' || uid || ' in mailbox ' || mailbox || ' should have ' || size"
        " || ' octets, but has ' || found FROM (SELECT m.uid, m.mailbox, m.size, r.size AS rendered_size,"
        " length(o.header) + length(o.body) + (SELECT coalesce(sum(length(octets)), 0) FROM body_piece"
        f" WHERE id BETWEEN m.content << {PIECE_BITS} AND ((m.content + 1) << {PIECE_BITS}) - 1) AS found"
        " FROM message AS m JOIN rendered AS r ON r.content = m.content"
        " JOIN octets AS o ON o.content = m.content) WHERE size != found OR size != rendered_size",
        "sizes",
    ),
    (
        "SELECT 'the text of the message UID ' || uid || ' in mailbox ' || mailbox || ' ends with NUL octets that it"
        " had not' FROM (SELECT m.uid, m.mailbox, coalesce((SELECT octets FROM body_piece WHERE id BETWEEN"
        f" m.content << {PIECE_BITS} AND ((m.content + 1) << {PIECE_BITS}) - 1 ORDER BY id DESC LIMIT 1),"
        " CASE WHEN length(o.body) THEN o.body ELSE o.header END) AS last"
        " FROM message AS m JOIN octets AS o ON o.content = m.content"
        # A text whose last line has no end has a row there.
        " WHERE NOT EXISTS (SELECT 1 FROM line_end AS l WHERE l.content = m.content)) WHERE substr(last, -1) = x'00'",
        "ends",
    ),
    (
        "SELECT 'a change number in mailbox ' || mailbox || ' is above the highest of the account'"
        " FROM message AS m WHERE modseq > (SELECT modseq FROM account_state AS s WHERE s.account = m.account)",
        "ModSeq",
    ),
    (
        "SELECT 'the account counts ' || messages || ' messages and ' || octets || ' octets, but its mailboxes have '"
        " || (SELECT coalesce(sum(messages), 0) || ' and ' || coalesce(sum(octets), 0) FROM mailbox)"
        " FROM account_state WHERE (messages, octets) !="
        " (SELECT coalesce(sum(messages), 0), coalesce(sum(octets), 0) FROM mailbox)",
        "account counts",
    ),
    (
        "SELECT 'a flag set of UID ' || uid || ' in mailbox ' || mailbox || ' is unknown' FROM message"
        " WHERE flags >> 5 != 0 AND flags >> 5 NOT IN (SELECT id FROM keyword_set)",
        "keywords",
    ),
)
"""(query that gives one line for each problem, what it is about)."""

MOST_LINES_A_RULE = 20


def check_store(
    data_dir: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[str]:
    """Yields one line for each problem. Read-only; the server may run. `progress` gets (done, all) accounts."""
    for name in _SINGLE:
        if not (data_dir / name).exists():
            yield _why_missing(data_dir / name)
    yield from check_single(data_dir)
    if not (data_dir / "directory.db").exists():
        return
    folder = data_dir / "accounts"
    accounts = _known_accounts(data_dir / "directory.db")
    if accounts is None:  # whose files these are, nobody knows
        for path in sorted(folder.glob("*/*.db")):
            yield from check_account(path, str(path.relative_to(data_dir)))
        yield from _check_journal(data_dir / "journal")
        return
    # Folders that are somebody else's are told by `owned`.
    accounts = [each for each in accounts if may_look(account_path(folder, each[0]).parent)]
    missing = find_missing(data_dir, [account for account, _ in accounts])
    for number, (account, address) in enumerate(accounts, 1):
        path = account_path(folder, account)
        if account in missing:
            yield f"{address}: {path.name} is missing: {how_to_mend(address)}"
        else:
            if path.exists():  # else it never got mail
                yield from _with_advice(check_account(path, address), address)
            if why := database.why_no_file(lock_path(path)):
                yield f"{address}: it takes no mail: {why}"
        if progress:
            progress(number, len(accounts))
    known = {account_path(folder, account).name for account, _ in accounts}
    for path in sorted(folder.glob("*/*.db")):
        if path.name not in known:
            yield f"{path.relative_to(data_dir)} belongs to no account"
    yield from _check_journal(data_dir / "journal")


def _with_advice(problems: Iterator[str], address: str) -> Iterator[str]:
    """What to do behind the first one, unless it is one that a repair does not mend."""
    for number, problem in enumerate(problems):
        is_ours = "is damaged" in problem or "cannot be read" not in problem
        yield f"{problem}: {how_to_repair(address)}" if is_ours and not number else problem


def check_single(data_dir: Path) -> Iterator[str]:
    """The same for those files that are there of which there is one, and that no repair makes anew."""
    for path in (data_dir / name for name in _SINGLE):
        for problem in _check_file(path, path.name, ()) if path.exists() else ():
            yield f"{problem}: {database.how_to_replace(path)}" if "damaged" in problem else problem


def _why_missing(path: Path) -> str:
    if path.stem == "directory":
        try:
            ensure_not_lost(path)
        except Refused as refused:
            return refused.text
    return f"{path.name} is missing in {path.parent}"


def check_account(path: Path, address: str) -> Iterator[str]:
    """The same for the file of one account."""
    yield from _check_file(path, address, _RULES)


def _known_accounts(path: Path) -> list[tuple[int, str]] | None:
    """None: they cannot be read."""
    rows = _rows(path, "SELECT account, address FROM account ORDER BY address")
    return None if rows is None else [(int(row[0]), str(row[1])) for row in rows]


def check_domains(data_dir: Path) -> Iterator[str]:
    """What is wrong where there is none. Where they cannot be read, `check_store` tells that."""
    if _rows(data_dir / "directory.db", "SELECT 1 FROM domain LIMIT 1") == []:
        yield (
            f"there is no domain in {data_dir}: mount its disk or mend data_dir, if it should be elsewhere; to begin"
            " with a new server, run: pillarbox domain add example.org"
        )


def _rows(path: Path, query: str) -> list[Any] | None:
    """None: they cannot be read."""
    try:
        connection = database.open_to_read(path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except (apsw.Error, Failure):
        return None


def _check_file(path: Path, who: str, rules: tuple[tuple[str, str], ...]) -> Iterator[str]:
    try:
        connection = database.open_to_read(path)
    except apsw.Error as error:
        yield f"{_named(who, path)} {_why(error, path)}"
        return
    broken = False
    try:
        connection.execute("BEGIN")  # one moment, while the server goes on
        found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(20)")]
        if broken := found != ["ok"]:
            yield f"{_named(who, path)} is damaged (SQLite: {_in_one_line(found)})"
        if rules:
            connection.execute("SELECT name FROM mailbox").fetchall()  # each is UTF-8
        for query, _about in rules:
            for (line,) in connection.execute(f"{query} LIMIT {MOST_LINES_A_RULE}"):
                yield f"{who}: {line}"
    except apsw.Error as error:
        if not broken:  # else that was told
            yield f"{_named(who, path)} {_why(error, path)}"
    except UnicodeDecodeError:
        if not broken:
            yield f"{_named(who, path)} is damaged: a name in it is no UTF-8"
    finally:
        connection.close()


def _named(who: str, path: Path) -> str:
    return who if who.endswith(path.name) else f"{who}: {path.name}"


def _why(error: apsw.Error, path: Path) -> str:
    text = _in_one_line([str(error)])
    if database.is_damage(error):
        return f"is damaged: parts of it cannot be read (SQLite: {text})"
    if isinstance(error, (apsw.CantOpenError, apsw.PermissionsError, apsw.IOError)):
        return f"cannot be read: {database.unavailable(error, path).told}"
    return f"cannot be read (SQLite: {text})"


def _in_one_line(found: list[str]) -> str:
    """The first thing that SQLite says, and how many more it says."""
    lines = [line for text in found for line in text.splitlines() if not line.startswith("***")]
    more = f"; and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0] if lines else 'nothing'}{more}"


def _check_journal(folder: Path) -> Iterator[str]:
    for path in journal.segments(folder):
        if lost_octets := journal.read_file(path).lost_octets:
            yield f"journal/{path.name} is damaged: {lost_octets} octets of it are missing or cannot be read"

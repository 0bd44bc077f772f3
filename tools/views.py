"""The page of the SQL views: columns and their order from the schema, what they mean from here."""

import apsw

from pillarbox.store.database import migrate
from pillarbox.store.published import VIEWS

HEAD = """# The tables that you may read

Made by `python tools/reference.py --write` from the schema and `tools/views.py`.

Each account is one SQLite file, `data_dir/accounts/<last two hex digits of the id>/<id, 8 hex digits>.db`. The views
below keep their names and columns; the tables behind them do not. `pillarbox sql ACCOUNT 'SELECT ...'` asks them, for
people or with `--json` or `--csv`, and lets nothing be changed. A message may come into its file up to a second after
its 250.

Or read them yourself while the server runs, or from a copy (made with `sqlite3 FILE '.backup COPY'`: what came last is
in a second file, `-wal`); write nothing. `sqlite3 -readonly FILE 'SELECT ...'` works where the file's folder may be
written to (SQLite needs its `-shm` file).
"""

MEANINGS = {
    "mailboxes": {
        "mailbox_id": "its number in the account, the same after a new name",
        "name": "components joined by `/`",
        "uidvalidity": "as IMAP tells it",
        "uidnext": "the UID that the next message will get, at least",
        "messages": "how many there are",
        "unseen": "how many have no \\Seen",
        "deleted": "how many have \\Deleted",
        "octets": "of all its messages together",
        "modseq": "its last change (HIGHESTMODSEQ)",
        "special_use": "what it is for, like `\\Sent`; NULL: nothing special",
    },
    "messages": {
        "mailbox_id": "where it is",
        "mailbox": "the name of that",
        "uid": "its number there",
        "received": "UTC, `YYYY-MM-DD HH:MM:SS`",
        "sent": "likewise, from the Date field; NULL without a usable one",
        "sender": "of the first address in From the part before the @, as SORT compares it (RFC 5051), A to Z small",
        "recipient": "likewise, of To",
        "subject": "the base subject of RFC 5256, likewise: no `Re:`; accents stand behind their letters",
        "octets": "its size",
        "seen": "0 or 1",
        "answered": "0 or 1",
        "flagged": "0 or 1",
        "deleted": "0 or 1: it has \\Deleted",
        "draft": "0 or 1",
        "keywords": "joined by spaces",
        "preview": "how its text begins",
        "modseq": "its last change",
        "content_id": "the same for copies in one account",
        "thread_id": "the same for messages of one conversation",
    },
    "headers": {
        "content_id": "that of `messages`",
        "header": "the header block as text",
    },
    "history": {
        "mailbox_id": "where it was",
        "mailbox": "the name of that",
        "modseq": "when, in the order of all changes of the account",
        "first_uid": "from this message",
        "last_uid": "to this one, itself included",
        "change": "`flags` or `expunged`",
    },
}

EXAMPLES = """
## Examples

```sql
SELECT mailbox, count(*), sum(octets) FROM messages GROUP BY mailbox;
SELECT uid, sender, subject FROM messages WHERE mailbox = 'INBOX' AND NOT seen ORDER BY uid DESC LIMIT 20;
SELECT sender, count(*) AS n FROM messages GROUP BY sender ORDER BY n DESC LIMIT 10;
SELECT mailbox, uid, octets, subject FROM messages ORDER BY octets DESC LIMIT 20;
SELECT date(received) AS day, count(*) AS n, sum(octets) AS octets
    FROM messages GROUP BY day ORDER BY day DESC LIMIT 30;
SELECT thread_id, count(*) AS n, min(received), max(received) FROM messages GROUP BY thread_id ORDER BY n DESC LIMIT 10;
SELECT name, messages, unseen, octets FROM mailboxes ORDER BY octets DESC;
SELECT mailbox, sum(NOT seen) AS unseen, sum(flagged) AS flagged FROM messages GROUP BY mailbox;
SELECT mailbox, min(received) AS oldest FROM messages GROUP BY mailbox ORDER BY oldest;
SELECT h.header FROM messages AS m JOIN headers AS h USING (content_id)
    WHERE m.mailbox = 'INBOX' AND m.uid = 1;
```
"""


def page() -> str:
    """As it should be. Raises KeyError for a column without a meaning, ValueError for a meaning without a column."""
    connection = apsw.Connection(":memory:")
    migrate(connection, "account")
    text = HEAD
    for view in VIEWS:
        columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({view})")]
        meanings = MEANINGS[view]
        if unknown := set(meanings) - set(columns):
            raise ValueError(f"{view} has no column {unknown}")
        text += f"\n## {view}\n\n| column | what it is |\n| --- | --- |\n"
        text += "".join(f"| `{column}` | {meanings[column]} |\n" for column in columns)
    connection.close()
    return text + EXAMPLES

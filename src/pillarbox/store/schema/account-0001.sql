-- One account: its mailboxes and its mail. docs/schema.md explains the published views at the end.
-- Every table leads with `account`, which is constant in a per-account file.

CREATE TABLE account_state (
    account      INTEGER PRIMARY KEY,
    modseq       INTEGER NOT NULL,  -- the highest given in this account (RFC 7162 §3.1)
    next_content INTEGER NOT NULL,
    next_mailbox INTEGER NOT NULL,
    uidvalidity  INTEGER NOT NULL,  -- the highest given in this account
    messages     INTEGER NOT NULL,  -- quota counters (RFC 9208 §5)
    octets       INTEGER NOT NULL,
    generation   INTEGER NOT NULL   -- the unclean stop up to which recovery has dealt with this file
);

-- `name` holds the components joined by U+001F, so that the hierarchy separator can be changed.
-- Messages with a UID of `recent_uid` or above are \Recent to the next session (RFC 3501 §2.3.2).
-- Flag changes up to `change_floor` are no longer in `change`; expunges always are.
CREATE TABLE mailbox (
    account      INTEGER NOT NULL,
    mailbox      INTEGER NOT NULL,
    name         TEXT NOT NULL,
    uidvalidity  INTEGER NOT NULL,
    uidnext      INTEGER NOT NULL,
    recent_uid   INTEGER NOT NULL,
    messages     INTEGER NOT NULL,
    unseen       INTEGER NOT NULL,
    deleted      INTEGER NOT NULL,
    octets       INTEGER NOT NULL,
    modseq       INTEGER NOT NULL,
    change_floor INTEGER NOT NULL,
    special_use  TEXT NOT NULL,
    PRIMARY KEY (account, mailbox)
) WITHOUT ROWID;
CREATE UNIQUE INDEX mailbox_name ON mailbox (account, name);

CREATE TABLE subscription (
    account INTEGER NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;

-- All that COPY, MOVE, STORE and EXPUNGE touch. `flags` as in core.flags, dates as in core.dates,
-- `savedate` in epoch seconds (RFC 8514), `uidl` only where it is not made from UIDVALIDITY and UID.
CREATE TABLE message (
    account      INTEGER NOT NULL,
    mailbox      INTEGER NOT NULL,
    uid          INTEGER NOT NULL,
    content      INTEGER NOT NULL,
    flags        INTEGER NOT NULL,
    modseq       INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    internaldate INTEGER NOT NULL,
    savedate     INTEGER NOT NULL,
    uidl         TEXT,
    PRIMARY KEY (account, mailbox, uid)
) WITHOUT ROWID;

CREATE TABLE keyword_set (
    account INTEGER NOT NULL,
    id      INTEGER PRIMARY KEY,
    names   TEXT NOT NULL UNIQUE  -- sorted, joined by spaces
);

-- What changed in which ranges of UIDs; kind 1: flags, 2: expunged. New messages are told by UIDNEXT.
CREATE TABLE change (
    account   INTEGER NOT NULL,
    mailbox   INTEGER NOT NULL,
    modseq    INTEGER NOT NULL,
    first_uid INTEGER NOT NULL,
    last_uid  INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox, modseq, first_uid)
) WITHOUT ROWID;

-- By content (shared by the copies of a message within the account).
CREATE TABLE rendered (
    account       INTEGER NOT NULL,
    content       INTEGER PRIMARY KEY,
    header_size   INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    thread        INTEGER NOT NULL,  -- THREADID (RFC 8474 §5.2)
    envelope      BLOB NOT NULL,
    bodystructure BLOB NOT NULL,
    preview       TEXT NOT NULL
);

-- The common header fields, raw, in order, joined by NUL; `shape` has one octet a field that says which
-- (store.content). A NULL shape: look into `octets`.
CREATE TABLE fields (
    account INTEGER NOT NULL,
    content INTEGER PRIMARY KEY,
    shape   BLOB,
    octets  BLOB NOT NULL
);

-- The message itself: header block and the first piece of what is behind it, in one row for one read.
CREATE TABLE octets (
    account INTEGER NOT NULL,
    content INTEGER PRIMARY KEY,
    header  BLOB NOT NULL,
    parts   BLOB NOT NULL,  -- the packed part table of mime.parts
    body    BLOB NOT NULL
);

-- The further pieces of large bodies, from 1: id = content << 12 | piece.
CREATE TABLE body_piece (
    account INTEGER NOT NULL,
    id      INTEGER PRIMARY KEY,
    octets  BLOB NOT NULL
);

-- How many octets POP3 adds to a content with bare LFs or without a final CRLF (RFC 1939 §3); most have no row.
CREATE TABLE line_end (
    account INTEGER NOT NULL,
    content INTEGER PRIMARY KEY,
    added   INTEGER NOT NULL
);

-- Keys for SORT and THREAD (RFC 5256); Message-IDs as 63-bit hashes, `refs` an array of them, 8 octets each.
CREATE TABLE sort_key (
    account    INTEGER NOT NULL,
    content    INTEGER PRIMARY KEY,
    sent       INTEGER,
    subject    TEXT NOT NULL,
    is_reply   INTEGER NOT NULL,
    from_key   TEXT NOT NULL,
    to_key     TEXT NOT NULL,
    cc_key     TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    refs       BLOB NOT NULL
);

CREATE TABLE thread (
    account    INTEGER NOT NULL,
    message_id INTEGER PRIMARY KEY,
    thread     INTEGER NOT NULL
);

-- Contents that lost a message row, since when (epoch seconds): kept for a while, then reclaimed.
CREATE TABLE expunged (
    account     INTEGER NOT NULL,
    content     INTEGER PRIMARY KEY,
    expunged_at INTEGER NOT NULL
);

-- Bodies that are being written in several steps; what an unclean stop leaves here is removed.
CREATE TABLE staged (
    account INTEGER NOT NULL,
    content INTEGER PRIMARY KEY
);

-- Deliveries from the pending table that were done, so that doing one again adds nothing.
CREATE TABLE delivered (
    account      INTEGER NOT NULL,
    key          TEXT NOT NULL,
    delivered_at INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;

CREATE VIEW mailboxes AS
    SELECT mailbox AS mailbox_id, replace(name, char(31), '/') AS name, uidvalidity, uidnext, messages,
           unseen, deleted, octets, modseq, special_use
    FROM mailbox;

CREATE VIEW messages AS
    SELECT m.mailbox AS mailbox_id, replace(b.name, char(31), '/') AS mailbox, m.uid,
           datetime(m.internaldate >> 12, 'unixepoch') AS received,
           datetime(k.sent >> 12, 'unixepoch') AS sent,
           k.from_key AS sender, k.to_key AS recipient, k.subject, m.size AS octets,
           (m.flags & 8) != 0 AS seen, (m.flags & 1) != 0 AS answered, (m.flags & 2) != 0 AS flagged,
           (m.flags & 4) != 0 AS deleted, (m.flags & 16) != 0 AS draft, coalesce(s.names, '') AS keywords,
           r.preview, m.modseq, m.content AS content_id, r.thread AS thread_id
    FROM message AS m
    JOIN mailbox AS b ON b.account = m.account AND b.mailbox = m.mailbox
    JOIN rendered AS r ON r.content = m.content
    JOIN sort_key AS k ON k.content = m.content
    LEFT JOIN keyword_set AS s ON s.id = m.flags >> 5;

CREATE VIEW headers AS
    SELECT content AS content_id, CAST(header AS TEXT) AS header FROM octets;

CREATE VIEW history AS
    SELECT c.mailbox AS mailbox_id, replace(b.name, char(31), '/') AS mailbox, c.modseq, c.first_uid, c.last_uid,
           CASE c.kind WHEN 1 THEN 'flags' ELSE 'expunged' END AS change
    FROM change AS c JOIN mailbox AS b ON b.account = c.account AND b.mailbox = c.mailbox;

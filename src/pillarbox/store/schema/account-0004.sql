-- Annotations of mailboxes, and with mailbox 0 of the account itself (RFC 5464). `entry` is in lower case.
CREATE TABLE metadata (
    account INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    entry   TEXT NOT NULL,
    value   BLOB NOT NULL,
    PRIMARY KEY (account, mailbox, entry)
) WITHOUT ROWID;

-- What others may do with a mailbox (RFC 4314). `grantee` is the number of an account, 0 for anyone; `rights` are
-- letters in the order of store.acl.RIGHTS, never none.
CREATE TABLE acl (
    account INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    grantee INTEGER NOT NULL,
    rights  TEXT NOT NULL,
    PRIMARY KEY (account, mailbox, grantee)
) WITHOUT ROWID;

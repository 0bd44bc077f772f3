-- Whose mailboxes an account (0: any) may find something in that is shared with it; what exactly says the owner's file.
CREATE TABLE share (
    grantee INTEGER NOT NULL,
    owner   INTEGER NOT NULL,
    PRIMARY KEY (grantee, owner)
) WITHOUT ROWID;

-- To how many recipients at other hosts each account sent, by step of some minutes.
CREATE TABLE sent (
    account    INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (account, step)
) WITHOUT ROWID;

-- Accounts of which somebody was told that they sent to too many.
CREATE TABLE told (account INTEGER PRIMARY KEY);

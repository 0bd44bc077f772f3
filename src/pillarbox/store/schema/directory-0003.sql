-- Senders that an account may use besides the addresses that lead to it.
CREATE TABLE identity (
    account INTEGER NOT NULL,
    sender  TEXT NOT NULL,       -- an address, or "@domain" for all of them
    created INTEGER NOT NULL,
    PRIMARY KEY (account, sender)
) WITHOUT ROWID;

-- How many recipients at other hosts an account may send to, where that is not what the configuration says.
CREATE TABLE sending_limit (
    account INTEGER PRIMARY KEY,
    hourly  INTEGER,             -- NULL: as configured; 0: no limit
    daily   INTEGER
);

-- Accounts that may log in as others: "alice@example.org*helper@example.org" with the helper's password.
CREATE TABLE supporter (
    account INTEGER PRIMARY KEY,
    created INTEGER NOT NULL
);

-- Random keys that stay: 'scram' makes the false salts of users that do not exist.
CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- Networks whose connections are turned away.
CREATE TABLE ban (
    network TEXT PRIMARY KEY,   -- like 192.0.2.0/24
    until   INTEGER,            -- epoch seconds; NULL: for good
    reason  TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;

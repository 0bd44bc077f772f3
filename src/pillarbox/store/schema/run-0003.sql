-- Failed logins by what was tried from where: a network, an account, or an account from a network.
DROP TABLE login_failure;
CREATE TABLE login_failure (
    key   TEXT PRIMARY KEY,
    until REAL NOT NULL       -- epoch seconds: when all of them are forgiven
) WITHOUT ROWID;
CREATE INDEX login_failure_until ON login_failure (until);

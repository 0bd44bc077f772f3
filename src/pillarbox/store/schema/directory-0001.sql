-- Who lives here: domains, accounts, aliases and credentials.

CREATE TABLE domain (
    domain  TEXT PRIMARY KEY,  -- A-labels, lower case
    created INTEGER NOT NULL
) WITHOUT ROWID;

-- `address` is canonical: lower case, domain in A-labels. A row is never reused for another account.
CREATE TABLE account (
    account       INTEGER PRIMARY KEY AUTOINCREMENT,
    address       TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,     -- Argon2id in its own notation; '' : no password login
    scram_sha256  TEXT NOT NULL,     -- the verifier of RFC 5803 §2, made with the same password
    enabled       INTEGER NOT NULL,
    referral      TEXT NOT NULL,     -- an IMAP URL to send clients to (RFC 2221), '' : none
    quota_octets  INTEGER,
    quota_messages INTEGER,
    version       INTEGER NOT NULL,  -- raised by whatever voids a proof of login
    created       INTEGER NOT NULL
);

CREATE TABLE app_password (
    id            INTEGER PRIMARY KEY,
    account       INTEGER NOT NULL,
    name          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    expires       INTEGER,
    last_used     INTEGER,
    created       INTEGER NOT NULL,
    UNIQUE (account, name)
);

-- `alias` is an address, or "@domain" for all that has no other match there (catch-all).
CREATE TABLE alias (
    alias   TEXT NOT NULL,
    target  TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (alias, target)
) WITHOUT ROWID;

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- Who logged in to which account, or tried to: one row for each kind of attempt, not for each attempt.
CREATE TABLE login (
    account   INTEGER NOT NULL,
    client    TEXT NOT NULL,     -- IP address
    protocol  TEXT NOT NULL,     -- smtp, imap, pop3
    mechanism TEXT NOT NULL,     -- SASL name, or LOGIN, USER
    result    TEXT NOT NULL,     -- 'ok', or why not
    with_what TEXT NOT NULL,     -- the name of the app password, or the address of the supporter; '': the password
    network   TEXT NOT NULL,     -- of the client: an IPv4 address or an IPv6 /64
    first     INTEGER NOT NULL,  -- epoch seconds
    last      INTEGER NOT NULL,
    attempts  INTEGER NOT NULL,
    PRIMARY KEY (account, client, protocol, mechanism, result, with_what)
) WITHOUT ROWID;
CREATE INDEX login_last ON login (account, last);

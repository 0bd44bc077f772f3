-- Mail on its way to other hosts: the message once, as it will be sent.
-- (IF NOT EXISTS: for some commits of 0.1 these tables were part of queue-0001.)
CREATE TABLE IF NOT EXISTS outgoing_message (
    id           INTEGER PRIMARY KEY,
    queue_id     TEXT NOT NULL UNIQUE,
    reverse_path TEXT NOT NULL,     -- '' for the null path
    account      INTEGER,           -- who submitted it, NULL for bounces and forwards
    envid        TEXT NOT NULL,     -- RFC 3461 section 4.4, '' for none
    ret          TEXT NOT NULL,     -- FULL, HDRS or ''
    eight_bit    INTEGER NOT NULL,  -- needs 8BITMIME of the next host
    created      INTEGER NOT NULL,  -- epoch seconds
    octets       BLOB NOT NULL
);

-- One row for each recipient that has not yet got it. Who works on a row is its `owner` and pushes `next_try` into
-- the future, so a lease that is not renewed ends by itself.
CREATE TABLE IF NOT EXISTS outgoing (
    message   INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    next_hop  TEXT NOT NULL,
    notify    TEXT NOT NULL,     -- RFC 3461 section 4.1: '', NEVER, or a list of SUCCESS, FAILURE, DELAY
    orcpt     TEXT NOT NULL,
    held      INTEGER NOT NULL,  -- 1: by an administrator, 2: until it is accepted from its submitter
    attempts  INTEGER NOT NULL,
    next_try  INTEGER NOT NULL,  -- epoch seconds
    expires   INTEGER NOT NULL,
    warn_at   INTEGER NOT NULL,  -- 0: no notice of delay is due any more
    owner     TEXT NOT NULL,     -- '': nobody works on it
    sending   INTEGER NOT NULL,  -- the final dot was or is being sent
    host      TEXT NOT NULL,     -- of the last attempt
    reply     TEXT NOT NULL,     -- what it said
    PRIMARY KEY (message, recipient)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outgoing_due ON outgoing (held, next_try);
CREATE INDEX IF NOT EXISTS outgoing_hop ON outgoing (next_hop, next_try);

-- Mail that was accepted and is not yet where it belongs.

-- The message once, with the header fields that all recipients share.
CREATE TABLE queued_message (
    queue_id TEXT PRIMARY KEY,
    sender   TEXT NOT NULL,
    received INTEGER NOT NULL,  -- a date of core.dates
    octets   BLOB NOT NULL
) WITHOUT ROWID;

-- Deliveries to local accounts that could not be done at once; `prefix` is put in front of the message.
CREATE TABLE pending (
    queue_id  TEXT NOT NULL,
    recipient TEXT NOT NULL,
    account   INTEGER NOT NULL,
    prefix    BLOB NOT NULL,
    attempts  INTEGER NOT NULL,
    next_try  INTEGER NOT NULL,  -- epoch seconds
    error     TEXT NOT NULL,
    PRIMARY KEY (queue_id, recipient)
) WITHOUT ROWID;

-- Mail on its way to other hosts: the message once, as it will be sent.
CREATE TABLE outgoing_message (
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
CREATE TABLE outgoing (
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
CREATE INDEX outgoing_due ON outgoing (held, next_try);
CREATE INDEX outgoing_hop ON outgoing (next_hop, next_try);

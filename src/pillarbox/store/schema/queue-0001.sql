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

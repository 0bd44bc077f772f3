-- What a sender wishes to be told of deliveries that could not be done at once (RFC 3461).
ALTER TABLE queued_message ADD COLUMN envid TEXT NOT NULL DEFAULT '';

-- Recipients with NOTIFY=SUCCESS, as they were written and with their ORCPT, that the row of `pending` will reach.
CREATE TABLE pending_wish (
    queue_id  TEXT NOT NULL,
    recipient TEXT NOT NULL,
    address   TEXT NOT NULL,
    orcpt     TEXT NOT NULL,
    PRIMARY KEY (queue_id, recipient, address)
) WITHOUT ROWID;

-- Replies of other hosts that the translator does not know (`outbound.translate`), so that its table can grow.
CREATE TABLE unknown_reply (
    reply TEXT PRIMARY KEY,     -- without what differs from message to message
    count INTEGER NOT NULL,
    last  INTEGER NOT NULL      -- epoch seconds
) WITHOUT ROWID;

-- Ids of messages from the drop folder that were queued, until their files are gone: so that a stop in between sends
-- nothing twice.
CREATE TABLE taken_up (queue_id TEXT PRIMARY KEY) WITHOUT ROWID;

-- The messages that share a content: what the search index finds are contents, and one that no message has any more is
-- given up.
CREATE INDEX message_content ON message (content);

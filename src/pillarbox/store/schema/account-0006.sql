-- Sort keys are by i;unicode-casemap (RFC 5051): store.sort_keys has made those anew that were folded in another way.
-- People read them with small letters, as before.
DROP VIEW messages;
CREATE VIEW messages AS
    SELECT m.mailbox AS mailbox_id, replace(b.name, char(31), '/') AS mailbox, m.uid,
           datetime(m.internaldate >> 12, 'unixepoch') AS received,
           datetime(k.sent >> 12, 'unixepoch') AS sent,
           lower(k.from_key) AS sender, lower(k.to_key) AS recipient, lower(k.subject) AS subject, m.size AS octets,
           (m.flags & 8) != 0 AS seen, (m.flags & 1) != 0 AS answered, (m.flags & 2) != 0 AS flagged,
           (m.flags & 4) != 0 AS deleted, (m.flags & 16) != 0 AS draft, coalesce(s.names, '') AS keywords,
           r.preview, m.modseq, m.content AS content_id, r.thread AS thread_id
    FROM message AS m
    JOIN mailbox AS b ON b.account = m.account AND b.mailbox = m.mailbox
    JOIN rendered AS r ON r.content = m.content
    JOIN sort_key AS k ON k.content = m.content
    LEFT JOIN keyword_set AS s ON s.id = m.flags >> 5;

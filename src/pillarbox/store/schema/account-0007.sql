-- Every keyword that is in some set, by its small letters, spelled as it was seen first: sets are many, keywords few.
-- A keyword is an atom (RFC 3501 §9), so it has no quotes and no blanks.
CREATE TABLE keyword (
    account INTEGER NOT NULL,
    lower   TEXT NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (account, lower)
) WITHOUT ROWID;
INSERT OR IGNORE INTO keyword
    SELECT s.account, lower(word.value), word.value
    FROM keyword_set AS s, json_each('["' || replace(s.names, ' ', '","') || '"]') AS word
    ORDER BY s.id;

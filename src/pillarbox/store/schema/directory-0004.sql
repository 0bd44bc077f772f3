-- How much the accounts of a domain may keep, where they have no limits of their own. 0: no limit.
CREATE TABLE domain_quota (
    domain   TEXT PRIMARY KEY,
    octets   INTEGER NOT NULL,
    messages INTEGER NOT NULL
) WITHOUT ROWID;

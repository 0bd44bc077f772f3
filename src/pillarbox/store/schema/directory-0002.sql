-- What a domain signs with (DKIM).
-- (IF NOT EXISTS: for some commits of 0.1 this table was part of directory-0001.)
CREATE TABLE IF NOT EXISTS dkim_key (
    domain      TEXT NOT NULL,
    selector    TEXT NOT NULL,
    algorithm   TEXT NOT NULL,     -- 'rsa' or 'ed25519'
    record      TEXT NOT NULL,     -- the TXT record of the public key
    private_key TEXT NOT NULL,     -- PEM (PKCS #8); '' once retired
    state       TEXT NOT NULL,     -- 'new': its record may not be published yet; 'active': it signs; 'retired'
    created     INTEGER NOT NULL,
    changed     INTEGER NOT NULL,  -- since when it is in this state
    PRIMARY KEY (domain, selector)
) WITHOUT ROWID;

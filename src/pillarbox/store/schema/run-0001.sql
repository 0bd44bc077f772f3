-- What workers share while the server runs; wiped at each start.

-- Failed logins by client network.
CREATE TABLE login_failure (
    network TEXT PRIMARY KEY,
    count   INTEGER NOT NULL,
    last    INTEGER NOT NULL  -- epoch seconds
) WITHOUT ROWID;

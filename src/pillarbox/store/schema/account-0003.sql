-- Of which share of its quota an account was told last, in per cent; no row: of none.
CREATE TABLE quota_told (
    account INTEGER PRIMARY KEY,
    percent INTEGER NOT NULL
);

-- Up to which message of a run of the journal (one process of a worker) this file has what was taken for it
-- (store.intake), and when it got the last (epoch seconds).
CREATE TABLE taken (
    account  INTEGER NOT NULL,
    run      INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    put_at   INTEGER NOT NULL,
    PRIMARY KEY (account, run)
) WITHOUT ROWID;

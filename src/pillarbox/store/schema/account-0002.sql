-- Up to which message of a worker's journal this file has what was taken for it (store.intake). `run` is one
-- process of the worker.
CREATE TABLE taken (
    account  INTEGER NOT NULL,
    worker   TEXT NOT NULL,
    run      INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (account, worker)
) WITHOUT ROWID;

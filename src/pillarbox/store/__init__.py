"""Where mail is kept: one SQLite file per account, a directory, a queue, and a redo journal.

`Store` is the door. Sessions only `await store.read(account, work)` and `await store.write(account, work)`, where
`work` is a plain function of a `Tx` that calls the functions of `mailboxes`, `messages` and `changes`; mail comes in
by `await store.append(account, appends)`. The store knows no protocol.
"""

"""The IMAP service: sessions over the `imap` engine and the store (RFC 3501 and the extensions in `capabilities`).

`session.ImapSession` drives one connection, `table` says which function serves a command and when the client is told
of changes, `commands` has these functions, `view` the message numbers, `fetch_items` what FETCH renders.
"""

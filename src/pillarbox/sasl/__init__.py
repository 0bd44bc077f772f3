"""SASL mechanisms, server side, without I/O (RFC 4422).

One row of `mechanisms.MECHANISMS` adds a mechanism; SMTP, IMAP and POP3 carry its messages.
"""

"""The POP3 service: the engine of `pillarbox.pop3` over the INBOX of an account (RFC 1939)."""

"""Pillarbox: a complete mail server (SMTP, IMAP, POP3) in one package."""

__version__ = "0.1.0"

"""The SMTP service: reception of mail on port 25 and submission on 587 and 465 (RFC 5321, RFC 6409)."""

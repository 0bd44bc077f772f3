"""SMTP as a protocol, without I/O (RFC 5321 and extensions). `server.SmtpServer` is the engine."""

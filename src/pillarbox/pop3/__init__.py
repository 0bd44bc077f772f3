"""POP3 as a protocol, without I/O (RFC 1939 and extensions). `server.Pop3Server` is the engine."""

"""The IMAP protocol without I/O: framing, grammar, command values, responses and the server engine.

RFC 3501 with LITERAL+ (7888), SASL-IR (4959), ID (2971), ENABLE (5161), IDLE (2177), NAMESPACE (2342),
UNSELECT (3691), UIDPLUS (4315), MOVE (6851), SPECIAL-USE (6154), SORT and THREAD (5256). It knows no store:
`server.Server` gives events, whoever drives it interprets them.
"""

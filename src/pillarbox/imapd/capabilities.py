"""What the server announces, by state (RFC 3501 §6.1.1, §7.2.1)."""

from pillarbox.imap.table import State

BASE: tuple[bytes, ...] = (
    b"IMAP4rev1",
    b"LITERAL+",  # RFC 7888
    b"SASL-IR",  # RFC 4959
    b"LOGIN-REFERRALS",  # RFC 2221
    b"ID",  # RFC 2971
    b"ENABLE",  # RFC 5161
    b"IDLE",  # RFC 2177
)

AFTER_LOGIN: tuple[bytes, ...] = (
    b"NAMESPACE",  # RFC 2342
    b"CHILDREN",  # RFC 3348
    b"UNSELECT",  # RFC 3691
    b"UIDPLUS",  # RFC 4315
    b"MOVE",  # RFC 6851
    b"SPECIAL-USE",  # RFC 6154
    b"CREATE-SPECIAL-USE",
    b"SORT",  # RFC 5256
    b"THREAD=REFERENCES",
    b"THREAD=ORDEREDSUBJECT",
    b"CONDSTORE",  # RFC 7162
    b"QRESYNC",
    b"ESEARCH",  # RFC 4731
    b"SEARCHRES",  # RFC 5182
    b"ESORT",  # RFC 5267
    b"PARTIAL",  # RFC 9394
    b"WITHIN",  # RFC 5032
    b"SORT=DISPLAY",  # RFC 5957
    b"SEARCH=FUZZY",  # RFC 6203
    b"SAVEDATE",  # RFC 8514
    b"PREVIEW",  # RFC 8970
)

AUTH: tuple[bytes, ...] = (b"AUTH=PLAIN", b"AUTH=LOGIN")


def capabilities(state: State, *, tls: bool, allow_cleartext_login: bool) -> tuple[bytes, ...]:
    """In the order in which they are announced."""
    if state is not State.NOT_AUTHENTICATED:
        return BASE + AFTER_LOGIN
    names = BASE if tls else (*BASE, b"STARTTLS")
    if tls or allow_cleartext_login:
        return names + AUTH
    # RFC 3501 §6.2.3: LOGIN must not be tried
    return (*names, b"LOGINDISABLED")

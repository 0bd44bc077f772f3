"""What the server announces, by state (RFC 3501 §6.1.1, §7.2.1)."""

from pillarbox.imap.table import State
from pillarbox.imapd.context import ImapContext

BASE: tuple[bytes, ...] = (
    b"IMAP4rev1",
    b"IMAP4rev2",  # RFC 9051
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
    b"LIST-EXTENDED",  # RFC 5258
    b"LIST-STATUS",  # RFC 5819
    b"STATUS=SIZE",  # RFC 8438
    b"MULTIAPPEND",  # RFC 3502
    b"CATENATE",  # RFC 4469
    b"REPLACE",  # RFC 8508
    b"BINARY",  # RFC 3516
    b"UTF8=ACCEPT",  # RFC 6855
    b"QUOTA",  # RFC 9208
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
    b"METADATA",  # RFC 5464
    b"METADATA-SERVER",
    b"ACL",  # RFC 4314
    b"RIGHTS=texk",
    b"LIST-MYRIGHTS",  # RFC 8440
    b"COMPRESS=DEFLATE",  # RFC 4978
    b"SORT",  # RFC 5256
    b"THREAD=REFERENCES",
    b"THREAD=ORDEREDSUBJECT",
    b"I18NLEVEL=1",  # RFC 5255 §4.3
    b"CONDSTORE",  # RFC 7162
    b"QRESYNC",
    b"ESEARCH",  # RFC 4731
    b"SEARCHRES",  # RFC 5182
    b"ESORT",  # RFC 5267
    b"CONTEXT=SEARCH",
    b"CONTEXT=SORT",
    b"PARTIAL",  # RFC 9394
    b"MULTISEARCH",  # RFC 7377
    b"FILTERS",  # RFC 5466
    b"NOTIFY",  # RFC 5465
    b"WITHIN",  # RFC 5032
    b"SORT=DISPLAY",  # RFC 5957
    b"SEARCH=FUZZY",  # RFC 6203
    b"OBJECTID",  # RFC 8474
    b"SAVEDATE",  # RFC 8514
    b"PREVIEW",  # RFC 8970
)


def capabilities(
    state: State, context: ImapContext, *, tls: bool, mechanisms: tuple[str, ...] | None
) -> tuple[bytes, ...]:
    """In the order in which they are announced. `mechanisms` are those of SASL, None: no login over the
    connection as it is."""
    # RFC 7888 §5: one of them; RFC 7889 §2 (a)
    literals = b"LITERAL-" if context.literal_minus else b"LITERAL+"
    names = (*BASE, literals, b"APPENDLIMIT=%d" % context.max_message_size)
    if state is not State.NOT_AUTHENTICATED:
        names += AFTER_LOGIN
        return (*names, b"UNAUTHENTICATE") if context.unauthenticate else names  # RFC 8437 §3
    if not tls:
        names = (*names, b"STARTTLS")
    # RFC 3501 §6.2.3: LOGINDISABLED: LOGIN must not be tried
    if mechanisms is None:
        return (*names, b"LOGINDISABLED")
    return (*names, *(b"AUTH=" + name.encode("ascii") for name in mechanisms))

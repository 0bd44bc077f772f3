"""Each command's grammar, through the table (RFC 3501 §6, §9 and the extensions)."""

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.core.errors import Refused, RemoteError
from pillarbox.core.flags import DELETED, SEEN
from pillarbox.imap.grammar import Cursor, FlagList
from pillarbox.imap.seqset import SAVED, SeqSet, parse_seqset
from pillarbox.imap.syntax_append import AppendSyntax, MessageLiteral, NewMessage, Target
from pillarbox.imap.syntax_fetch import Fetch, FetchItem, Section
from pillarbox.imap.syntax_list import List
from pillarbox.imap.syntax_mailbox import Create, Mailbox, Rename, Status
from pillarbox.imap.syntax_message import Copy, Expunge, Store
from pillarbox.imap.syntax_multisearch import MultiSearch, Source
from pillarbox.imap.syntax_return import Partial, Return
from pillarbox.imap.syntax_search import (
    And,
    CancelUpdate,
    Fuzzy,
    Key,
    Not,
    Or,
    Program,
    Search,
    Sort,
    SortKey,
    Thread,
)
from pillarbox.imap.syntax_select import Resync, Select
from pillarbox.imap.syntax_session import Authenticate, Enable, Id, Login
from pillarbox.imap.table import COMMANDS, Arguments


def parse(text: bytes, *literals: bytes) -> Arguments:
    """`text` without a tag."""
    words = text.split(b" ")
    length = 2 if words[0].upper() == b"UID" else 1
    name = b" ".join(words[:length])
    cursor = Cursor(text, literals, len(name))
    args = COMMANDS[name.upper()].parse(cursor)
    cursor.end()
    return args


def program(text: bytes, *literals: bytes) -> Program:
    search = parse(b"SEARCH " + text, *literals)
    assert isinstance(search, Search)
    return search.program


def items(text: bytes) -> tuple[FetchItem, ...]:
    fetch = parse(b"FETCH 1 " + text)
    assert isinstance(fetch, Fetch)
    return fetch.items


ONE = SeqSet(((1, 1),))

WELL_FORMED: list[tuple[bytes, Arguments]] = [
    (b"NOOP", None),
    (b"CAPABILITY", None),
    (b"IDLE", None),
    (b"UNSELECT", None),
    (b"AUTHENTICATE gssapi", Authenticate("GSSAPI", None)),
    (b"AUTHENTICATE PLAIN AHRlc3QAdGVzdA==", Authenticate("PLAIN", b"\0test\0test")),
    (b"AUTHENTICATE EXTERNAL =", Authenticate("EXTERNAL", b"")),
    (b"ID NIL", Id(None)),
    (b"ID ()", Id({})),
    (b'ID ("Name" "x" "os" NIL)', Id({"name": "x", "os": None})),
    (b"ENABLE condstore X-y", Enable(("CONDSTORE", "X-Y"))),
    (b"SELECT iNbOx", Select("INBOX")),
    (b'EXAMINE "a b"', Select("a b")),
    (b"DELETE Entw&APw-rfe", Mailbox("Entwürfe")),
    (b"SUBSCRIBE a]b", Mailbox("a]b")),
    (b"CREATE owatagusiam/", Create("owatagusiam/")),
    (b"CREATE x (USE (\\Drafts \\Sent))", Create("x", (b"\\Drafts", b"\\Sent"))),
    (b"CREATE x (use ())", Create("x")),
    (b"RENAME a b", Rename("a", "b")),
    (b'LIST "" ""', List("", ("",))),
    (b"LIST #news. comp.*%", List("#news.", ("comp.*%",))),
    (b'LSUB "inbox" inbox', List("inbox", ("inbox",))),
    (b"STATUS x (UIDNEXT messages UIDNEXT)", Status("x", ("UIDNEXT", "MESSAGES"))),
    (b"EXPUNGE", Expunge()),
    (b"UID EXPUNGE 1", Expunge(ONE)),
    (b"COPY 1 Meeting", Copy(ONE, "Meeting")),
    (b"UID MOVE 1 x", Copy(ONE, "x", uid=True)),
    (b"STORE 1 +FLAGS (\\Deleted)", Store(ONE, "+", False, FlagList(DELETED))),
    (b"STORE 1 flags.silent ()", Store(ONE, "", True, FlagList())),
    (
        b"UID STORE 1 -FLAGS \\seen $Junk $JUNK x",
        Store(ONE, "-", False, FlagList(SEEN, (b"$Junk", b"x")), uid=True),
    ),
    (b"SORT (SUBJECT reverse DATE) UTF-8 ALL", Sort((SortKey("SUBJECT"), SortKey("DATE", True)), Key("ALL"))),
    (b"SELECT x (CONDSTORE)", Select("x", condstore=True)),
    (b"EXAMINE x (QRESYNC (5 9))", Select("x", resync=Resync(5, 9))),
    (b"SELECT x (QRESYNC (5 9 1:3,7 (1,3 4,9)) condstore)",
     Select("x", True, Resync(5, 9, SeqSet(((1, 3), (7, 7))), ((1, 1), (3, 3)), ((4, 4), (9, 9))))),
    (b"SELECT x (QRESYNC (5 9 (1 4)))", Select("x", False, Resync(5, 9, None, ((1, 1),), ((4, 4),)))),
    (b"STORE $ (unchangedsince 7) +FLAGS.SILENT \\Seen", Store(SAVED, "+", True, FlagList(8), False, 7)),
    (b"SEARCH RETURN () $", Search(Key("SEQUENCE", SAVED), False, Return(frozenset(("ALL",))))),
    (b"UID SEARCH RETURN (Min PARTIAL -1:-20) MODSEQ 5",
     Search(Key("MODSEQ", 5), True, Return(frozenset(("MIN", "PARTIAL")), Partial(1, 20, True, b"-1:-20")))),
    (b'SEARCH MODSEQ "/flags/\\\\Seen" priv 0', Search(Key("MODSEQ", 0))),
    (b"SEARCH FUZZY (OLDER 1 NOT FUZZY SAVEDON 1-Jan-1970)",
     Search(Fuzzy(And([Key("OLDER", 1), Not(Fuzzy(Key("SAVEDON", 0)))])))),
    (b"SEARCH OR EMAILID M1-2 THREADID T_", Search(Or(Key("EMAILID", "M1-2"), Key("THREADID", "T_")))),
    (b'CANCELUPDATE "a" "b"', CancelUpdate((b"a", b"b"))),
    (b"ESEARCH IN (personal subtree (a b)) SEEN",
     MultiSearch(Search(Key("SEEN"), True), (Source("personal"), Source("subtree", ("a", "b"))))),
    (b"UID THREAD references us-ascii SEEN", Thread("REFERENCES", Key("SEEN"), uid=True, codec="ascii")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WELL_FORMED)
def test_well_formed_arguments(text: bytes, expected: Arguments) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"NOOP x", b"NOOP ", b"LOGIN a", b"LOGIN a  b", b"LOGIN a b c", b'LOGIN a "b', b'LOGIN a "\\x"',
        b"LOGIN (a) b", b"AUTHENTICATE", b"AUTHENTICATE PLAIN ", b"AUTHENTICATE PLAIN a", b"AUTHENTICATE PLAIN ==",
        b"ID", b"ID (a b)", b'ID ("a")', b"ENABLE", b"SELECT", b"SELECT a b", b"SELECT *", b"SELECT \xe9",
        b"CREATE x (SIZE 3)", b"CREATE x (USE (Sent))", b"RENAME a", b"LIST a", b'LIST "" a b', b"STATUS a",
        b"STATUS a ()", b"STATUS a (FOO)", b"STATUS a (MESSAGES", b"EXPUNGE 1", b"UID EXPUNGE", b"COPY 0 a",
        b"COPY 1", b"STORE 1 FLAGS", b"STORE 1 *FLAGS (a)", b"STORE 1 FLAGS (a  b)", b"STORE 1 FLAGS (\\Recent)",
        b"STORE 1 FLAGS (\\Foo)", b"STORE 1 FLAGS (\\*)", b"STORE 1 FLAGS a ", b"FETCH 1", b"FETCH 1 ()",
        b"FETCH 1 FOO", b"FETCH 1 (ALL)", b"FETCH 1 (FLAGS ALL)", b"FETCH 1 BODY.PEEK", b"FETCH 1 BODY[MIME]",
        b"FETCH 1 BODY[0]", b"FETCH 1 BODY[1.]", b"FETCH 1 BODY[HEADER.FIELDS]", b"FETCH 1 BODY[HEADER.FIELDS ()]",
        b"FETCH 1 BODY[TEXT.FIELDS (a)]", b"FETCH 1 BODY[]<1>", b"FETCH 1 BODY[]<1.0>", b"FETCH 1 FLAGS[]",
        b"FETCH 1 (FLAGS UID", b"FETCH x FLAGS", b"SEARCH", b"SEARCH FOO", b"SEARCH ()", b"SEARCH NOT",
        b"SEARCH OR SEEN", b"SEARCH SINCE 31-Feb-2020", b"SEARCH SINCE 1-Foo-2020", b"SEARCH LARGER -1",
        b"SEARCH LARGER 4294967296", b"SEARCH LARGER " + b"9" * 5000, b"SEARCH FROM", b"SEARCH HEADER a",
        b"SEARCH KEYWORD \\Seen", b'SEARCH FROM "\xff"', b"SEARCH (SEEN", b"SORT (FOO) UTF-8 ALL",
        b"SORT (DATE) UTF-8", b"SORT () UTF-8 ALL", b"SORT (REVERSE) UTF-8 ALL", b"THREAD FOO UTF-8 ALL",
    ],
)  # fmt: skip
def test_malformed_arguments_are_refused_as_bad(text: bytes) -> None:
    with pytest.raises(RemoteError):
        parse(text)


def test_a_search_key_that_is_not_known_is_named() -> None:
    with pytest.raises(RemoteError, match=r"Unknown search key NOSUCHKEY$"):
        parse(b"SEARCH FROM x nosuchkey")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SELECT &Jjo!", "CANNOT"),
        (b"CREATE &AGE-", "CANNOT"),
        (b"RENAME a &AGE-", "CANNOT"),
        (b'LIST "" &', "CANNOT"),
        (b"SEARCH CHARSET X-FOO ALL", "BADCHARSET"),
        (b"SORT (DATE) base64 ALL", "BADCHARSET"),
    ],
)
def test_what_is_well_formed_but_cannot_be_served_is_refused_as_no(text: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert caught.value.code.split(" ")[0] == code


def login(text: bytes, *literals: bytes) -> tuple[str, str]:
    args = parse(b"LOGIN " + text, *literals)
    assert isinstance(args, Login)
    return args.userid, args.password.reveal()


def test_strings_are_atoms_quoted_or_literals() -> None:
    assert login(b"smith sesame") == ("smith", "sesame")
    assert login(b'"" "se\\"s\\\\ame"') == ("", 'se"s\\ame')
    assert login(b"{11}\n {7+}\n", b"FRED FOOBAR", b"fat man") == ("FRED FOOBAR", "fat man")
    with pytest.raises(RemoteError):
        login(b"a {3}\n", b"a\0b")
    with pytest.raises(RemoteError):
        login(b'a "x{3}\n"', b"abc")


def test_secrets_do_not_show_in_repr() -> None:
    assert "sesame" not in repr(parse(b"LOGIN smith sesame"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"alice*helper x", "user name"),
        (b"alice\\helper x", "user name"),
        (b"(a) b", "user name"),
        ("jürgen x".encode(), "user name"),
        (b"alice%d x" % 7 + b"*y", "password"),
        (b'"alice*helper" *x', "password"),
        (b'alice x"y"', "password"),
    ],
)
def test_a_login_without_the_quotes_that_it_needs_is_told_so(text: bytes, what: str) -> None:
    with pytest.raises(RemoteError, match=f"Expected a {what} in double quotes"):
        parse(b"LOGIN " + text)
    with pytest.raises(RemoteError, match="Expected a password, but the command ended"):
        parse(b'LOGIN "alice*helper" ')
    assert "test" not in repr(parse(b"AUTHENTICATE PLAIN AHRlc3QAdGVzdA=="))


def test_flags_and_date_come_before_the_literal_of_append() -> None:
    def read(text: bytes) -> object:
        return AppendSyntax(is_multiple=True).read(Cursor(text), 310)

    date = b'"17-Jul-1996 02:44:25 -0700"'
    message = NewMessage(FlagList(SEEN), pack_date(837596665, -420))
    assert read(b" (\\Seen) %b {310}\n" % date) == ([message], MessageLiteral(310))
    assert parse(b"APPEND {1}\n", b"x") == Target("x")
    message = NewMessage(FlagList(), pack_date(-3541, 60))
    assert read(b' " 1-Jan-1970 00:00:60 +0100" {310}\n') == ([message], MessageLiteral(310))
    for bad in (
        b'"1996"',
        b'"31-Feb-1996 02:44:25 -0700"',
        b'"17-Jul-1996 02:44:25 -9900"',
        b"Seen",
        b'""',
    ):
        with pytest.raises(RemoteError):
            read(b" %b {310}\n" % bad)


def test_fetch_macros_are_expanded() -> None:
    def names(text: bytes) -> list[str]:
        return [item.name for item in items(text)]

    assert names(b"FAST") == ["FLAGS", "INTERNALDATE", "RFC822.SIZE"]
    assert names(b"all") == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"]
    assert names(b"FULL") == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"]


def test_every_plain_fetch_item() -> None:
    text = b"(flags UID INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE RFC822 RFC822.HEADER RFC822.TEXT)"
    assert [item.label for item in items(text)] == text[1:-1].upper().split()
    assert [item.name for item in items(text) if item.sets_seen] == ["RFC822", "RFC822.TEXT"]


def test_an_item_given_twice_is_fetched_once() -> None:
    assert len(items(b"(FLAGS flags BODY[] BODY[])")) == 2


def test_uid_fetch_always_has_uid() -> None:
    fetch = parse(b"UID FETCH 5:* FLAGS")
    assert isinstance(fetch, Fetch)
    assert fetch.uid
    assert [item.name for item in fetch.items] == ["UID", "FLAGS"]


@pytest.mark.parametrize(
    ("text", "label", "section", "partial", "sets_seen"),
    [
        (b"BODY[]", b"BODY[]", Section(), None, True),
        (b"body.peek[text]<0.100>", b"BODY[TEXT]<0>", Section(text="TEXT"), (0, 100), False),
        (b"BODY[1.2.3]", b"BODY[1.2.3]", Section((1, 2, 3)), None, True),
        (b"BODY[4.2.MIME]", b"BODY[4.2.MIME]", Section((4, 2), "MIME"), None, True),
        (b"BODY[3.HEADER]<5.1>", b"BODY[3.HEADER]<5>", Section((3,), "HEADER"), (5, 1), True),
        (
            b"BODY.PEEK[HEADER.FIELDS (from To FROM)]",
            b"BODY[HEADER.FIELDS (FROM TO)]",
            Section((), "HEADER.FIELDS", (b"FROM", b"TO")),
            None,
            False,
        ),
        (
            b'BODY[2.HEADER.fields.not ("a b" x)]',
            b'BODY[2.HEADER.FIELDS.NOT ("A B" X)]',
            Section((2,), "HEADER.FIELDS.NOT", (b"A B", b"X")),
            None,
            True,
        ),
    ],
)
def test_body_sections(
    text: bytes, label: bytes, section: Section, partial: tuple[int, int] | None, sets_seen: bool
) -> None:
    assert items(text) == (FetchItem("BODY[]", label, section, partial, sets_seen),)


def test_every_search_key_without_an_argument() -> None:
    flags = ["ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN"]
    for name in ["ALL", "NEW", "OLD", "RECENT", *flags, *("UN" + flag for flag in flags)]:
        assert program(name.lower().encode()) == Key(name)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"FROM smith", Key("FROM", "smith")),
        (b"bcc x", Key("BCC", "x")),
        (b'SUBJECT ""', Key("SUBJECT", "")),
        (b"HEADER Message-ID <1@x>", Key("HEADER", ("Message-ID", "<1@x>"))),
        (b"KEYWORD $Junk", Key("KEYWORD", "$Junk")),
        (b"SINCE 1-Feb-1994", Key("SINCE", 8797)),
        (b'SENTON "01-feb-1994"', Key("SENTON", 8797)),
        (b"LARGER 0", Key("LARGER", 0)),
        (b"SMALLER 4294967295", Key("SMALLER", 4294967295)),
        (b"UID 5:*", Key("UID", parse_seqset(b"5:*"))),
        (b"1:3,*", Key("SEQUENCE", parse_seqset(b"1:3,*"))),
        (b"*", Key("SEQUENCE", parse_seqset(b"*"))),
    ],
)
def test_search_keys_with_arguments(text: bytes, key: Key) -> None:
    assert program(text) == key


def test_search_keys_combine() -> None:
    assert program(b"FLAGGED SINCE 1-Feb-1994 NOT FROM Smith") == And(
        [Key("FLAGGED"), Key("SINCE", 8797), Not(Key("FROM", "Smith"))]
    )
    assert program(b"OR (SEEN DRAFT) NOT (NEW)") == Or(
        And([Key("SEEN"), Key("DRAFT")]), Not(Key("NEW"))
    )


def test_search_text_is_decoded_from_its_charset() -> None:
    assert program(b"CHARSET UTF-8 TEXT {6}\n", "еда".encode()) == Key("TEXT", "еда")
    assert program(b'charset koi8-r SUBJECT "\xc5\xc4\xc1"') == Key("SUBJECT", "еда")
    assert program(b'TO "\xc3\xa9"') == Key("TO", "é")
    with pytest.raises(RemoteError):
        program(b'CHARSET US-ASCII TO "\xc3\xa9"')


@pytest.mark.parametrize("opening", [b"(", b"NOT ", b"OR SEEN "])
def test_search_nesting_is_limited(opening: bytes) -> None:
    with pytest.raises(RemoteError):
        program(opening * 5000 + b"SEEN")

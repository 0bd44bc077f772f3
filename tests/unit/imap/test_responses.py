"""Responses in wire form (RFC 3501 §7)."""

from pillarbox.core.flags import ANSWERED, SEEN
from pillarbox.imap import responses


def test_an_astring_is_an_atom_if_it_can_be() -> None:
    assert responses.astring(b"INBOX") == b"INBOX"
    assert responses.astring(b"a]b") == b"a]b"
    assert responses.astring(b"") == b'""'
    assert responses.astring(b"nil") == b'"nil"'
    assert responses.astring(b'a "b"') == b'"a \\"b\\""'
    assert responses.astring(b"100%") == b'"100%"'
    assert responses.astring(b"a\r\nb") == b"{4}\r\na\r\nb"


def test_mailbox_names_are_sent_in_modified_utf7() -> None:
    assert (
        responses.listing([b"\\HasNoChildren"], "/", "é")
        == b'* LIST (\\HasNoChildren) "/" &AOk-\r\n'
    )
    assert responses.listing([], "", "x", b"LSUB") == b"* LSUB () NIL x\r\n"
    assert responses.listing([], "\\", "x") == b'* LIST () "\\\\" x\r\n'
    assert (
        responses.status("a b", {"MESSAGES": 2, "UIDNEXT": 9})
        == b'* STATUS "a b" (MESSAGES 2 UIDNEXT 9)\r\n'
    )


def test_flags() -> None:
    assert responses.flag_list(0) == b"()"
    assert (
        responses.flag_list(ANSWERED | SEEN, [b"$Junk"], recent=True)
        == b"(\\Answered \\Seen \\Recent $Junk)"
    )
    assert responses.permanentflags(SEEN, [], new_keywords=True) == b"PERMANENTFLAGS (\\Seen \\*)"


def test_status_text_cannot_break_the_line() -> None:
    assert responses.status_text(b"NO", "a\r\nb é", b"TRYCREATE") == b"NO [TRYCREATE] a  b ?"


def test_other_responses() -> None:
    assert responses.capability([b"IMAP4rev1", b"IDLE"]) == b"* CAPABILITY IMAP4rev1 IDLE\r\n"
    assert responses.enabled([]) == b"* ENABLED\r\n"
    spaces = responses.namespace(("", "Other Users"), ".")
    assert spaces == b'* NAMESPACE (("" ".")) (("Other Users." ".")) NIL\r\n'
    assert responses.identity(None) == b"* ID NIL\r\n"
    assert responses.identity({"name": "Pillarbox"}) == b'* ID ("name" "Pillarbox")\r\n'
    assert responses.appenduid(38505, [3955]) == b"APPENDUID 38505 3955"
    assert responses.appenduid(38505, [3, 4, 5]) == b"APPENDUID 38505 3:5"
    assert (
        responses.copyuid(9, [304, 319, 320], [3956, 3957, 3958])
        == b"COPYUID 9 304,319:320 3956:3958"
    )

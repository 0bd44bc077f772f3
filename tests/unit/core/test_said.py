"""What peers said, in the log."""

import re

import pytest

from pillarbox.core.said import ADDRESS, COMMAND, Said, SaidAddresses


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "alice@example.org",
        "o#br!en+tag/x@sub-domain.example.org",
        "jörg@exämple.org",
        "postmaster@[IPv6:2001:db8::1]",
        "alice@example.org*helper@example.org",
    ],
)
def test_what_looks_like_an_address_stands_as_it_is(text: str) -> None:
    assert str(Said(text)) == str(Said(text, ADDRESS)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x client=8.8.8.8", r'"x client\x3d8.8.8.8"'),
        ("client=8.8.8.8", r'"client\x3d8.8.8.8"'),
        ('"a b"@example.org', r'"\"a b\"@example.org"'),
        ("it's", '"it\'s"'),
        ("a\\", r'"a\\"'),
        ("a> b<", r'"a\x3e b\x3c"'),
        ("a\r\nb\x1b[2J\u202e\ud800\u00a0", r'"a\r\nb\x1b[2J\u202e\ud800\xa0"'),
    ],
)
def test_all_else_is_quoted_and_has_no_field_in_it(text: str, shown: str) -> None:
    assert str(Said(text)) == shown
    assert shown.isprintable()
    assert re.search(r"\w=", shown) is None


def test_addresses_of_lists_stand_in_brackets_as_they_are() -> None:
    of_a_list = "bounces+bob=example.org@lists.example.net"
    assert str(Said(of_a_list, ADDRESS)) == of_a_list
    assert str(Said("a client=1", ADDRESS)) == r'"a client\x3d1"'


def test_a_command_may_have_spaces() -> None:
    mail = "MAIL FROM:<a@b.test> SIZE=100"
    assert str(Said(mail, COMMAND)) == mail
    assert str(Said("RCPT client=1", COMMAND)) == r'"RCPT client\x3d1"'


def test_of_many_addresses_some_are_said_and_then_how_many_more() -> None:
    assert str(SaidAddresses([])) == "-"
    two = SaidAddresses(["a@example.org", "x> to=<b@example.org"])
    assert str(two) == r'<a@example.org>,<"x\x3e to\x3d\x3cb@example.org">'
    one = SaidAddresses(['"x>,<b"@example.org'])
    assert str(one) == r'<"\"x\x3e\x2c\x3cb\"@example.org">'
    assert two.text == "a@example.org,x> to=<b@example.org"
    many = SaidAddresses([f"a{number}@example.org" for number in range(32)])
    assert str(many).endswith(",<a18@example.org>,<a19@example.org>,+12")
    assert many.text.endswith(",a19@example.org,+12")

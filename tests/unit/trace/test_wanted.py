"""What people type becomes what is looked for."""

import pytest

from pillarbox.trace.events import Accepted, Login, Queued, Refused, Session
from pillarbox.trace.wanted import Kind, parse_wanted


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("02H3LL0VTJN56Y9G", Kind.QUEUE_ID, "02H3LL0VTJN56Y9G"),
        ("02h3ll0vtjn56y9g", Kind.QUEUE_ID, "02H3LL0VTJN56Y9G"),
        ("<A@b.example>", Kind.MESSAGE_ID, "<A@b.example>"),
        ("A@B.example", Kind.ADDRESS, "a@b.example"),
        ("@B.example", Kind.DOMAIN, "@b.example"),
        ("b.example.", Kind.DOMAIN, "@b.example"),
        ("192.0.2.1", Kind.CLIENT, "192.0.2.1"),
        ("2001:DB8::1", Kind.CLIENT, "2001:db8::1"),
        ("[2001:db8:0::1]", Kind.CLIENT, "2001:db8::1"),
        (" a@b.example ", Kind.ADDRESS, "a@b.example"),
    ],
)
def test_what_is_typed(text: str, kind: Kind, wanted: str) -> None:
    parsed = parse_wanted(text)
    assert (parsed.kind, parsed.text) == (kind, wanted)


@pytest.mark.parametrize("text", ["", "<>", "what is this", "hello", "@", "*"])
def test_what_is_nothing_of_all_that(text: str) -> None:
    with pytest.raises(ValueError, match="is no queue id, Message-ID, address"):
        parse_wanted(text)


MESSAGE = Accepted(
    "1",
    "Q",
    "<Id@X.example>",
    1,
    "Ann@A.example",
    [("t@b.example", ["Z@c.example"])],
    1,
    "",
    [],
    [],
)


def test_events_fit_by_their_values_not_by_a_part_of_them() -> None:
    for text in ("ann@a.example", "T@B.example", "z@c.example", "id@x.example", "@c.example"):
        assert parse_wanted(text).fits(MESSAGE), text
    for text in ("nn@a.example", "t@b.exampl", "@x.example", "<d@x.example>"):
        assert not parse_wanted(text).fits(MESSAGE), text


def test_refusals_and_logins_fit_by_address_and_client() -> None:
    command = Refused("1", "command", "", "", 501, "5.1.7", "Bad", "MAIL FROM:<x@y.example> A=B")
    assert parse_wanted("x@y.example").fits(command)
    failed = Login("1", "imap", "192.0.2.1", "ann@a.example", 1, "PLAIN", "wrong password", "")
    right = Login("1", "imap", "192.0.2.1", "ann@a.example", 1, "PLAIN", "ok", "")
    assert parse_wanted("ann@a.example").fits(failed)
    assert not parse_wanted("ann@a.example").fits(right)
    assert parse_wanted("192.0.2.1").fits(right)
    assert parse_wanted("192.0.2.1").fits(
        Session("1", "smtp", "192.0.2.1", 9, "192.0.2.9:25", "", "", "", 1)
    )
    assert not parse_wanted("192.0.2.9").fits(
        Session("1", "smtp", "192.0.2.1", 9, "192.0.2.9:25", "", "", "", 1)
    )
    assert parse_wanted("w@d.example").fits(Queued("Q", "", [("W@d.example", "d.example")], [], ""))


@pytest.mark.parametrize("text", ["300.1.1.1", "127.0.0.0/8", "1.2.3", "2001:db8::/32", "::1::2"])
def test_what_is_no_address_of_a_client_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="is not the IP address of a client"):
        parse_wanted(text)

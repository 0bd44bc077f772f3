"""IMAP URLs of messages (RFC 5092 §11)."""

import pytest

from pillarbox.imap.syntax_fetch import Section
from pillarbox.imap.url import MessageUrl, parse_message_url


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        (b"/INBOX/;UID=3", MessageUrl("INBOX", 0, 3, Section(), None)),
        (b"/inbox/;UID=3", MessageUrl("INBOX", 0, 3, Section(), None)),  # RFC 3501 §5.1: in any case
        (b"/Drafts;UIDVALIDITY=7/;uid=20", MessageUrl("Drafts", 7, 20, Section(), None)),
        (b"Drafts/;UID=20", MessageUrl("Drafts", 0, 20, Section(), None)),
        (b"/a/b%20c/;UID=1/;SECTION=1.2.MIME", MessageUrl("a/b c", 0, 1, Section((1, 2), "MIME"), None)),
        (b"/%C3%A9/;UID=1/;section=HEADER", MessageUrl("é", 0, 1, Section((), "HEADER"), None)),
        (
            b";UID=1/;SECTION=HEADER.FIELDS%20(To)/;PARTIAL=3.9",
            MessageUrl(None, 0, 1, Section((), "HEADER.FIELDS", (b"TO",)), (3, 9)),
        ),
        (b"/a/;UID=1/;PARTIAL=5", MessageUrl("a", 0, 1, Section(), (5, 0xFFFFFFFF))),
    ],
)  # fmt: skip
def test_urls_of_messages(url: bytes, parsed: MessageUrl) -> None:
    assert parse_message_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        b"",
        b"/INBOX",
        b"/INBOX/;UID=0",
        b"/INBOX/;UID=x",
        b"imap://host/INBOX/;UID=1",
        b"//host/INBOX/;UID=1 ",
        b"/INBOX/;UID=1;URLAUTH=anonymous",
        b"/INBOX/;UID=1/;SECTION=1.x",
        b"/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(%FF",
        b"/%FF/;UID=1",
        b"/a b/;UID=1",
        b"/a%2/;UID=1",
        "/é/;UID=1".encode(),
        b"/INBOX?SUBJECT%20x",
        b"/INBOX;UIDVALIDITY=0/;UID=1",
    ],
)
def test_what_is_not_the_url_of_a_message(url: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_message_url(url)

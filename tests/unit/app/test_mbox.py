"""Reading mboxes of many writers: where messages begin, their flags, dates and octets, and what is left out."""

import gzip
from pathlib import Path

import pytest

from pillarbox.app.importing import find_mailboxes
from pillarbox.app.mbox import PIECE_OCTETS
from pillarbox.app.old_message import OldMessage
from pillarbox.core.dates import epoch_of, zone_of
from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, FLAGGED, SEEN

MOST = 1000


def read(path: Path) -> list[OldMessage]:
    return [message for mailbox in find_mailboxes(path) for message in mailbox.messages(MOST)]


MBOX = b"""From a@b.example Thu Nov 26 10:00:00 2026
Subject: one
Status: RO
X-Status: AF

body
From here on, no date: a line of the body
>From quoted

>>From twice

From - Thu Nov 26 10:00:00 2026 +0100
Subject: two
X-Mozilla-Status: 1003
X-Mozilla-Keys: $label1 Non\xc3\xa9
X-Keywords: $Forwarded
  NonJunk

x
From a@b.example Thu Nov 26 10:00:00 2026
y
"""


def test_an_mbox_has_messages_between_its_from_lines(tmp_path: Path) -> None:
    (tmp_path / "mbox").write_bytes(MBOX)
    one, two = read(tmp_path / "mbox")
    assert one.octets.endswith(
        b"body\r\nFrom here on, no date: a line of the body\r\nFrom quoted\r\n\r\n>From twice\r\n"
    )
    assert one.octets.startswith(b"Subject: one\r\n\r\nbody")
    assert (one.flags, two.flags) == (SEEN | ANSWERED | FLAGGED, SEEN | ANSWERED)
    assert (epoch_of(one.internaldate), zone_of(one.internaldate)) == (1795687200, 0)
    assert (epoch_of(two.internaldate), zone_of(two.internaldate)) == (1795683600, 60)
    assert two.octets == (
        b"Subject: two\r\n\r\nx\r\nFrom a@b.example Thu Nov 26 10:00:00 2026\r\ny\r\n"
    )
    assert two.keywords == (b"$Forwarded", b"$label1", b"$Forwarded", b"NonJunk")


def test_a_message_of_an_mbox_that_is_too_large_is_named_by_its_number(tmp_path: Path) -> None:
    line = b"From a@b.example Thu Nov 26 10:00:00 2026\n"
    octets = line + b"A: b\n\n" + b"x\n" * MOST + b"\n" + line + b"A: c\n\n"
    (tmp_path / "mbox").write_bytes(octets)
    one, two = read(tmp_path / "mbox")
    assert one.where.endswith("mbox, message 1")
    assert (bool(one.problem), two.octets) == (True, b"A: c\r\n")


def test_an_empty_mbox_has_no_messages(tmp_path: Path) -> None:
    (tmp_path / "Drafts").touch()
    assert read(tmp_path / "Drafts") == []


def test_a_line_of_an_mbox_that_is_read_in_pieces_is_one(tmp_path: Path) -> None:
    line = b"x" * (PIECE_OCTETS - 1) + b">From y"
    path = tmp_path / "mbox"
    begin = b"From a@example.org Thu Nov 26 10:00:00 2026\n"
    # The first ends where a piece does, and so its line end and the ">" of the next are pieces of their own.
    text = b"A: b\n\n" + b"x" * PIECE_OCTETS + b"\n" + begin + line + b"\n\n"
    path.write_bytes(begin + text + begin + b"A: c\n\n")
    (mailbox,) = find_mailboxes(path)
    first, second = mailbox.messages(10 * PIECE_OCTETS)
    assert first.octets == text[:-1].replace(b"\n", b"\r\n")
    assert second.octets == b"A: c\r\n"


FROM = b"From a@b.example Thu Nov 26 10:00:00 2026\n"


def test_a_header_field_behind_a_from_line_begins_a_message(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(
        FROM
        + b"A: no empty line\n\nx\n"
        + FROM
        + b"A: no body\n"
        + FROM
        + b"A: bare\n\nFrom here\non\n\nFrom \r\nDate: Thu, 26 Nov 2026 12:00:00 +0100\nA: c\n\n"
        + b"y\n\nFrom -\nDate: Thu, 26 Nov 2026 12:00:00 +0100\n"
        + b"Received: from a by b;\n Thu, 26 Nov 2026 12:30:00 +0100\n\nz\n"
    )
    found = read(path)
    assert not any(message.problem for message in found)
    assert [message.octets.split(b"\r\n\r\n")[-1] for message in found] == [
        b"x\r\n",
        b"A: no body\r\n",
        b"From here\r\non\r\n",
        b"y\r\n",
        b"z\r\n",
    ]
    dates = [epoch_of(message.internaldate) - 1795687200 for message in found]
    assert dates == [0, 0, 0, 3600, 5400]


def test_two_messages_never_become_one_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(
        FROM + b"A: b\n\nx\n\nFrom me to you\nSubject: c\n\ny\n\n" + FROM + b"A: d\n\n"
    )
    unclear, clear = read(path)
    assert unclear.octets == b""
    assert "it may be two: the line 'From me to you\\n' at octet 51 stands" in unclear.problem
    assert (clear.octets, clear.problem) == (b"A: d\r\n", "")


def test_content_length_is_believed_where_it_leads_to_a_message(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    body = b">From x\n\n" + FROM + b"A: b\n\ninner"
    wrong = b"Content-Length: 7\nA: wrong\n\nmore than seven\n"
    path.write_bytes(
        FROM
        + b"A: one\nContent-Length: %d\n\n%b\n\n" % (len(body), body)
        + FROM
        + wrong
        + b"\n"
        + FROM
        + b"A: three\nContent-Length: 0\n\n\n"
        + FROM
        + b"A: four\nContent-Length: 99999\n\nx\n\n"
        + FROM
        + b"A: five\nContent-Length: 4\n\nabcd"
    )
    assert [message.octets for message in read(path)] == [
        b"A: one\r\n\r\n" + body.replace(b"\n", b"\r\n"),
        b"A: wrong\r\n\r\nmore than seven\r\n",
        b"A: three\r\n\r\n",
        b"A: four\r\n\r\nx\r\n",
        b"A: five\r\n\r\nabcd",
    ]
    body = b"x" * MOST
    path.write_bytes(FROM + b"Content-Length: %d\n\n%b\n\n" % (MOST, body) + FROM + b"A: b\n")
    large, small = read(path)
    assert "more than" in large.problem
    assert small.octets == b"A: b\r\n"


def test_what_the_old_program_hid_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n"
    expunged = b"X-Mozilla-Status: 0009\nX-Mozilla-Status: 0001\nA: b\n\nx\n\n"
    mozilla = b"From - Thu Nov 26 10:00:00 2026\n"
    path.write_bytes(
        FROM
        + internal
        + mozilla
        + expunged
        + b"From \n"
        + expunged
        # What a sender wrote hides nothing.
        + FROM
        + internal
        + FROM
        + expunged
        + mozilla
        + b"X-Mozilla-Status: 0001\n"
        + expunged
    )
    assert [message.is_hidden for message in read(path)] == [True, True, True, False, False, False]


def test_a_status_that_a_sender_wrote_stays_and_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"Status: FIXED\nX-Status: gone\nA: b\n\n" + b"Status: R\n")
    (message,) = read(path)
    assert message.flags == 0
    assert message.octets.startswith(b"Status: FIXED\r\nX-Status: gone\r\n")


def test_a_hidden_message_takes_no_other_along(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(
        b"From - Thu Nov 26 10:00:00 2026\nX-Mozilla-Status: 0009\n\nx\n\nFrom a b c\nTo: b\n\ny\n"
    )
    (message,) = read(path)
    assert (message.is_hidden, bool(message.problem)) == (False, True)


def test_text_behind_from_is_no_message(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    body = b"see\n\nFrom the docs\nhttps://example.org\n\nFrom here\non\n\nFrom Bob\nPhone: 1\n"
    path.write_bytes(FROM + b"A: b\n\n" + body)
    (message,) = read(path)
    assert message.octets == (b"A: b\n\n" + body).replace(b"\n", b"\r\n")


def test_a_content_length_into_the_middle_of_a_line_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    body = b"see " + FROM + b"X-Status: D\n\ny\n"
    path.write_bytes(FROM + b"Content-Length: 4\n\n" + body)
    (message,) = read(path)
    assert message.octets == b"\r\n" + body.replace(b"\n", b"\r\n")


def test_the_end_of_a_last_line_of_one_piece_stays(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"A: b\n\n" + b"x" * PIECE_OCTETS + b"\n")
    (mailbox,) = find_mailboxes(path)
    (message,) = mailbox.messages(10 * PIECE_OCTETS)
    assert message.octets.endswith(b"x\r\n")


def test_messages_of_thunderbird_need_no_empty_line_between(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    one = b"From \nX-Mozilla-Status: 0001\nA: b\n\nx\n"
    path.write_bytes(one + one)
    assert [message.octets for message in read(path)] == [b"A: b\r\n\r\nx\r\n"] * 2


def test_a_message_of_nothing_but_notes_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"Status: RO\n")
    assert [message.problem for message in read(path)] == ["it is empty"]


def test_what_mutt_counts_does_not_come_along(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(
        FROM + b"Content-Length: 2\nLines: 1\nA: b\n\nx\n\n" + FROM + b"Lines: 1\nA: news\n\nx\n"
    )
    assert [message.octets for message in read(path)] == [
        b"A: b\r\n\r\nx\r\n",
        b"Lines: 1\r\nA: news\r\n\r\nx\r\n",
    ]


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        (b"From a Thu Nov 26 11:00:00 2026\n", 0),  # local time, as the header's
        (b"From a Thu Nov 26 10:00:00 2026\n", 0),  # UTC, like that of RFC 4155
        (b"From a Thu Nov 26 10:00 2026\n", 0),
        (b"From a Thu Nov 26 11:00:00 CET 2026\n", 0),
        (b"From a Thu Nov 26 11:00:00 MET DST 2026\n", 0),
        (b"From a Thu Nov 26 10:00:00 EST 2026\n", 5 * 3600),
        (b"From a Thu Nov 26 11:00:00 +0000 2026\n", 3600),
        (b"From a@b Thu Nov 26 10:00:00 2026 -0200\n", 7200),
        (b"From a Thu Nov 26 11:00:00 2026 remote from b\n", 3600),
        (b"From a Thu, 26 Nov 2026 11:00:00 +0100\n", 0),
        (b"From a Thu Feb 31 10:00:00 2026\n", 2),  # that of Date
        (b"From bob12mar1999@example.org\n", 2),
    ],
)
def test_the_date_is_that_of_the_from_line_in_its_zone_or_the_headers(
    tmp_path: Path, line: bytes, moment: int
) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(line + b"Date: Thu, 26 Nov 2026 11:00:02 +0100\n\nx\n")
    (message,) = read(path)
    assert epoch_of(message.internaldate) - 1795687200 == moment


def test_a_message_without_any_date_has_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(b"From \nA: b\n\nx\n\n" + FROM + b"A: b\n\n\nFrom \nA: b\n\nx")
    dates = [epoch_of(message.internaldate) for message in read(path)]
    assert dates == [0, 1795687200, 1795687200]


def test_a_last_line_without_an_end_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"A: b\n\nx")
    assert [message.octets for message in read(path)] == [b"A: b\r\n\r\nx\r\n"]


def test_a_compressed_mbox_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "mbox.gz").write_bytes(gzip.compress(FROM))
    with pytest.raises(Refused, match="gzip"):
        find_mailboxes(tmp_path / "mbox.gz")


def test_two_fields_that_are_not_usual_make_it_unclear(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"A: b\n\nx\n\nFrom u remote from h\nApparently-To: c\nA: d\n\ny\n")
    assert [bool(message.problem) for message in read(path)] == [True]

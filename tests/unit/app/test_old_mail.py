"""Reading Maildirs and mboxes: names of folders, flags, dates, octets, and what is left out."""

import gzip
import os
from pathlib import Path

import pytest

from pillarbox.app.old_mail import PIECE_OCTETS, OldMessage, find_mailboxes
from pillarbox.core.dates import epoch_of, zone_of
from pillarbox.core.errors import Refused
from pillarbox.core.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

MOST = 1000


def maildir(folder: Path, **messages: bytes) -> Path:
    for name in ("cur", "new", "tmp"):
        (folder / name).mkdir(parents=True)
    for name, octets in messages.items():
        put(folder, f"cur/{name}", octets)
    return folder


def put(folder: Path, name: str, octets: bytes, modified: int = 1_000_000_000) -> None:
    (folder / name).write_bytes(octets)
    os.utime(folder / name, (modified, modified))


def read(path: Path) -> list[OldMessage]:
    return [message for mailbox in find_mailboxes(path) for message in mailbox.messages(MOST)]


def test_a_maildir_has_flags_dates_and_crlf(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    put(folder, "cur/1.a:2,FRSTDP", b"A: b\n\nx\r\ny\n", 300)
    put(folder, "new/2.b", b"A: c\n\n", 200)
    put(folder, "tmp/3.c", b"A: d\n\n")
    first, second = read(folder)
    assert (first.octets, first.flags, epoch_of(first.internaldate)) == (b"A: c\r\n\r\n", 0, 200)
    assert second.octets == b"A: b\r\n\r\nx\r\ny\r\n"
    assert second.flags == SEEN | ANSWERED | FLAGGED | DELETED | DRAFT
    assert epoch_of(second.internaldate) == 300


def test_letters_stand_for_the_keywords_that_dovecot_noted(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    (folder / "dovecot-keywords").write_bytes(b"0 $Forwarded\n1 Later\nx y\n99 z\n2 (\n")
    put(folder, "cur/1:2,Sacd", b"A: b\n\n")
    assert read(folder)[0].keywords == (b"$Forwarded",)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (".Work.2026", ("Work", "2026")),
        (".Entw&APw-rfe", ("Entwürfe",)),
        (".Entwürfe", ("Entwürfe",)),
        (".R&D", ("R&D",)),
        (".Sent Items", ("Sent",)),
        (".Sent Items.2019", ("Sent Items", "2019")),
    ],
)
def test_folders_of_maildirs_have_these_names(
    tmp_path: Path, folder: str, name: tuple[str, ...]
) -> None:
    maildir(tmp_path / "m")
    maildir(tmp_path / "m" / folder)
    (tmp_path / "m" / ".none").mkdir()
    assert [each.name for each in find_mailboxes(tmp_path / "m")] == [(), name]


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    put(folder, "cur/1", b"A: b\n" + b"x" * MOST)
    put(folder, "cur/2", b"")
    (tmp_path / "secret").write_bytes(b"A: b\n\n")
    (folder / "cur" / "3").symlink_to(tmp_path / "secret")
    (folder / "cur" / "4").mkdir()
    put(folder, "cur/5", b"A: b\n\n")
    (folder / ".link").symlink_to(tmp_path)
    found = read(folder)
    problems = {Path(each.where).name: each.problem for each in found if each.problem}
    assert sorted(problems) == ["1", "2", "3", "4"]
    assert "max_message_size" in problems["1"]
    assert problems["3"] == "it is a symbolic link"
    assert sum(not each.problem for each in found) == 1


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
X-Mozilla-Status: 0003

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
    assert one.octets.startswith(b"Subject: one\r\nStatus: RO\r\n")
    assert (one.flags, two.flags) == (SEEN | ANSWERED | FLAGGED, SEEN | ANSWERED)
    assert (epoch_of(one.internaldate), zone_of(one.internaldate)) == (1795687200, 0)
    assert (epoch_of(two.internaldate), zone_of(two.internaldate)) == (1795683600, 60)
    assert two.octets.endswith(b"From a@b.example Thu Nov 26 10:00:00 2026\r\ny\r\n")


def test_a_message_of_an_mbox_that_is_too_large_is_named_by_its_number(tmp_path: Path) -> None:
    line = b"From a@b.example Thu Nov 26 10:00:00 2026\n"
    octets = line + b"A: b\n\n" + b"x\n" * MOST + b"\n" + line + b"A: c\n\n"
    (tmp_path / "mbox").write_bytes(octets)
    one, two = read(tmp_path / "mbox")
    assert one.where.endswith("mbox, message 1")
    assert (bool(one.problem), two.octets) == (True, b"A: c\r\n")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"Subject: no mbox\n\n")
    for path, words in ((tmp_path / "text", "no mbox"), (tmp_path, "no Maildir")):
        with pytest.raises(Refused, match=words):
            find_mailboxes(path)


def test_an_empty_mbox_has_no_messages(tmp_path: Path) -> None:
    (tmp_path / "Drafts").touch()
    assert read(tmp_path / "Drafts") == []


def test_flags_are_those_of_the_file_and_not_of_its_folder(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m:2,FS", **{"1": b"A: b\n\n"})
    put(folder, "cur/2:2,S:2,F", b"A: b\n\n")
    assert sorted(message.flags for message in read(folder)) == [0, FLAGGED | SEEN]


def test_a_message_that_another_program_moved_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = maildir(tmp_path / "m")
    put(folder, "new/1", b"A: b\n\n")
    scan = os.scandir

    def moved(path: Path) -> list[os.DirEntry[str]]:
        entries = list(scan(path))
        if Path(path).name == "new" and entries:
            (folder / "new/1").rename(folder / "cur/1:2,S")
        return entries

    (mailbox,) = find_mailboxes(folder)
    monkeypatch.setattr(os, "scandir", moved)
    (message,) = mailbox.messages(MOST)
    assert (message.octets, message.flags, message.problem) == (b"A: b\r\n\r\n", SEEN, "")


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


def test_two_messages_never_become_one_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    begin = b"From - Thu Nov 26 10:00:00 2026\n"
    path.write_bytes(begin + b"A: b\n\nx\n\nFrom \r\nA: c\r\n\r\ny\r\n\n" + begin + b"A: d\n\n")
    unclear, clear = read(path)
    assert unclear.octets == b""
    assert "without a date" in unclear.problem
    assert (clear.octets, clear.problem) == (b"A: d\r\n", "")


def test_what_was_compressed_is_not_taken_for_mail(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m", **{"1": gzip.compress(b"A: b\n\n")})
    (message,) = read(folder)
    assert message.octets == b""
    assert "gzip" in message.problem

"""Reading Maildirs: names of folders, flags, dates, octets, and what is left out."""

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from pillarbox.app.importing import find_mailboxes
from pillarbox.app.old_message import OldMailbox, OldMessage
from pillarbox.core.dates import epoch_of, to_datetime
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


def problems(found: list[OldMailbox]) -> dict[str, str]:
    return {each.path.name: each.problem for each in found if each.problem}


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
    (folder / "dovecot-keywords").open("ab").write(b"4 a+b/c:d!\n")
    put(folder, "cur/1:2,PSacde", b"A: b\n\n")
    assert read(folder)[0].keywords == (b"$Forwarded", b"$Forwarded", b"a+b/c:d!")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (".Work.2026", ("Work", "2026")),
        (".Entw&APw-rfe", ("Entwürfe",)),
        (".Entwürfe", ("Entwürfe",)),
        (".R&D", ("R&D",)),
        (".2019&AC8-2020", ("2019", "2020")),
        (".a&AC4-b", ("a.b",)),
        (".R&D.Entw&APw-rfe", ("R&D", "Entwürfe")),
        (".Sent Items.2019", ("Sent Items", "2019")),
        ("Work.old", ("Work.old",)),  # LAYOUT=fs
        ("Entw&APw-rfe/2026", ("Entwürfe", "2026")),
        (os.fsdecode(b".caf\xe9"), ("café",)),
        (os.fsdecode(b".caf\xe8"), ("cafè",)),
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


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"Subject: no mbox\n\n")
    for path, words in ((tmp_path / "text", "no mbox"), (tmp_path, "no Maildir")):
        with pytest.raises(Refused, match=words):
            find_mailboxes(path)


def test_flags_are_those_of_the_file_and_not_of_its_folder(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m:2,FS", **{"1": b"A: b\n\n"})
    put(folder, "cur/2:2,S:2,F", b"A: b\n\n")
    assert sorted(message.flags for message in read(folder)) == [0, FLAGGED | SEEN]


def test_a_message_that_another_program_moved_is_found_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = maildir(tmp_path / "m")
    put(folder, "new/1", b"A: b\n\n")
    (mailbox,) = find_mailboxes(folder)
    scan = os.scandir

    def moved(place: int) -> list[os.DirEntry[str]]:
        entries = list(scan(place))
        if entries and (folder / "new/1").exists():
            (folder / "new/1").rename(folder / "cur/1:2,S")
        return entries

    monkeypatch.setattr(os, "scandir", moved)
    (message,) = mailbox.messages(MOST)
    assert (message.octets, message.flags, message.problem) == (b"A: b\r\n\r\n", SEEN, "")


def test_folders_that_are_passed_over_are_named(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    maildir(tmp_path / "other")
    (folder / ".link").symlink_to(tmp_path / "other")
    (folder / ".half").mkdir()
    (folder / ".half" / "cur").symlink_to(tmp_path / "other" / "cur")
    (folder / "subscriptions").symlink_to(tmp_path / "none")
    deep = folder / "/".join("a" * 70)
    deep.mkdir(parents=True)
    found = find_mailboxes(folder)
    assert problems(found) == {
        ".link": "it is a symbolic link",
        "cur": "it is a symbolic link",
        "a": "it is too deep",
    }


def test_a_folder_with_new_alone_is_one(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    (folder / ".x" / "new").mkdir(parents=True)
    put(folder, ".x/new/1", b"A: b\n\n")
    assert [message.octets for message in read(folder)] == [b"A: b\r\n\r\n"]


def test_a_folder_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m", **{"1": b"A: b\n\n"})
    secret = maildir(tmp_path / "secret", **{"1": b"A: secret\n\n"})
    (mailbox,) = find_mailboxes(folder)
    messages = mailbox.messages(MOST)
    (folder / "cur").rename(folder / "tmp" / "cur")
    (folder / "cur").symlink_to(secret / "cur")
    assert list(messages) == []


def test_what_was_compressed_is_not_taken_for_mail(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m", **{"1": gzip.compress(b"A: b\n\n")})
    (message,) = read(folder)
    assert message.octets == b""
    assert "gzip" in message.problem


def test_what_dovecot_compressed_by_lz4_is_not_taken_for_mail(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m", **{"1": b"Dovecot-LZ4\r*\x9b\xc5xyz", "2": b"x\x9cyz"})
    assert [message.octets for message in read(folder)] == [b"", b""]


def test_a_time_that_is_no_date_is_one(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m")
    put(folder, "cur/1", b"A: b\n\n", -5)
    put(folder, "cur/2", b"A: b\n\n", 1 << 53)
    dates = [to_datetime(message.internaldate) for message in read(folder)]
    assert (dates[0].year, dates[1].year <= 9999) == (1970, True)


def test_a_folder_that_cannot_be_read_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = maildir(tmp_path / "m")
    maildir(folder / ".x")
    maildir(folder / "Work")
    maildir(folder / "Work" / "2026")
    really_open = os.open

    def denied(path: str, flags: int, **more: Any) -> int:
        if path == ".x" or (path == "cur" and folder_of(more) == "Work"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, flags, **more)

    def folder_of(more: dict[str, Any]) -> str:
        return Path(os.readlink(f"/proc/self/fd/{more['dir_fd']}")).name

    monkeypatch.setattr(os, "open", denied)
    found = find_mailboxes(folder)
    assert set(problems(found)) == {".x", "Work"}
    assert problems(found)["Work"].startswith("cur or new: Permission denied; the server's user")
    assert found[-1].name == ("Work", "2026")


def test_flags_are_found_where_no_colon_could_be(tmp_path: Path) -> None:
    folder = maildir(tmp_path / "m", **{"1;2,SF": b"A: b\n\n", "2!2,SF": b"A: b\n\n"})
    assert [message.flags for message in read(folder)] == [FLAGGED | SEEN] * 2

"""`pillarbox import`: old mail comes into an account once, whatever interrupts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.commands import Run, runner

from pillarbox.app.importing import MOST_AT_ONCE
from pillarbox.core.errors import DiskFull
from pillarbox.store.appending import Append, Appended
from pillarbox.store.database import open_to_read
from pillarbox.store.store import Store

MESSAGES = 3 * MOST_AT_ONCE
IMPORT = ("import", "alice@example.org", "old")
FROM_LINE = b"From a@b.example Thu Nov 26 10:00:00 2026\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command where alice has an account: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text(
        'hostname = "mail.example.org"\ndata_dir = "data"\n[smtp]\nmax_message_size = 3000000\n'
    )

    run_command = runner(monkeypatch, capsys)
    assert run_command("domain", "add", "example.org")[0] == 0
    added = run_command(
        "account", "add", "alice@example.org", "--password-stdin", typed="long enough\n"
    )
    assert added[0] == 0
    return run_command


def put(name: str, octets: bytes, modified: int = 1_000_000_000) -> None:
    path = Path("old") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    os.utime(path, (modified, modified))


def message(number: int, body: bytes = b"") -> bytes:
    return b"From: bob@example.net\nSubject: %d\n\n%b\n" % (number, body or b"x" * 500)


def wait_for_begin(process: "subprocess.Popen[Any]") -> None:
    """Until an import has made the account's file, or ended."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if list(Path("data/accounts").glob("*/*.db")):
            break
        time.sleep(0.005)


def stored() -> Counter[tuple[str, str]]:
    """(mailbox, subject) of all messages."""
    (path,) = Path("data/accounts").glob("*/*.db")
    connection = open_to_read(path)
    try:
        return Counter(connection.execute("SELECT mailbox, subject FROM messages").fetchall())
    finally:
        connection.close()


def test_a_maildir_comes_with_folders_flags_keywords_and_dates(run: Run) -> None:
    put("cur/1:2,S", message(1))
    put("new/2", message(2, b"y" * 2_500_000), 1_100_000_000)
    put(".Sent Items/cur/3:2,RFa", message(3))
    put(".Sent Items/dovecot-keywords", b"0 $Forwarded\n")
    put(".Work.Entw&APw-rfe/cur/4:2,D", message(4))
    code, out, err = run(*IMPORT)
    assert (code, err) == (0, "")
    assert "INBOX: 2 messages imported.\nSent: 1 message imported.\nWork/Entwürfe: 1 " in out
    statement = (
        "SELECT mailbox, subject, received, octets, seen, answered, flagged, draft, keywords"
        " FROM messages ORDER BY subject"
    )
    found = json.loads(run("sql", "alice@example.org", statement, "--json")[1])
    assert [tuple(row.values()) for row in found] == [
        ("INBOX", "1", "2001-09-09 01:46:40", 539, 1, 0, 0, 0, ""),
        ("INBOX", "2", "2004-11-09 11:33:20", 2_500_039, 0, 0, 0, 0, ""),
        ("Sent", "3", "2001-09-09 01:46:40", 539, 0, 1, 1, 0, "$Forwarded"),
        ("Work/Entwürfe", "4", "2001-09-09 01:46:40", 539, 0, 0, 0, 1, ""),
    ]


def test_run_again_it_adds_what_is_missing_and_keeps_copies(run: Run) -> None:
    put("cur/1", message(1))
    put("cur/1-copy", message(1))
    assert run(*IMPORT)[0] == 0
    put("cur/2", message(2))
    code, out, _ = run(*IMPORT, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"imported": {"INBOX": 1}, "present": 2, "hidden": 0, "left": []},
    )
    assert stored() == {("INBOX", "1"): 2, ("INBOX", "2"): 1}


def test_an_mbox_goes_into_the_mailbox_that_is_named(run: Run) -> None:
    put("mbox", b"From a@b.example Thu Nov 26 10:00:00 2026\nStatus: RO\n" + message(1))
    assert run("import", "alice@example.org", "old/mbox", "--mailbox", "Archive/2019")[0] == 0
    assert stored() == {("Archive/2019", "1"): 1}


def test_what_cannot_be_taken_is_named_and_the_rest_goes_on(run: Run) -> None:
    put("cur/1", message(1))
    put("cur/2", b"")
    put("cur/3", message(3, b"z" * 3_000_000))
    put(".a\x01b/cur/4", message(4))
    code, out, err = run(*IMPORT)
    assert (code, out) == (1, "INBOX: 1 message imported.\n")
    assert "Left out: old/cur/2: it is empty\n" in err
    assert "old/cur/3: it has more than 3000000 octets" in err
    assert "control characters" in err
    assert err.endswith("pillarbox: 3 left out; they are named above\n")


def test_a_full_account_takes_what_fits(run: Run) -> None:
    for number in range(5):
        put(f"cur/{number}", message(number), 1_000_000_000 + number)
    run("account", "quota", "alice@example.org", "--messages", "3")
    code, out, err = run(*IMPORT)
    assert (code, out) == (1, "INBOX: 3 messages imported.\n")
    assert "alice@example.org is full" in err
    run("account", "quota", "alice@example.org", "--messages", "0")
    assert run(*IMPORT)[0] == 0
    assert stored() == {("INBOX", str(number)): 1 for number in range(5)}


def test_a_message_that_is_larger_than_the_quota_does_not_end_it(run: Run) -> None:
    put("cur/1", message(1, b"z" * 2_000_000), 1_000_000_000)
    put("cur/2", message(2), 1_000_000_001)
    run("account", "quota", "alice@example.org", "--storage", "1M")
    code, out, err = run(*IMPORT)
    assert (code, out) == (1, "INBOX: 1 message imported.\n")
    assert "Left out: old/cur/1: there is no room left" in err


def test_keywords_that_do_not_fit_do_not_cost_the_message(run: Run) -> None:
    long = b"k" * 200
    put("mbox", FROM_LINE + b"X-Keywords: %b\n" % long + message(1))
    code, _, err = run("import", "alice@example.org", "old/mbox")
    assert code == 1
    assert "message 1, its keywords: a keyword has at most 128 characters" in err
    assert stored() == {("INBOX", "1"): 1}


def test_what_was_read_since_is_not_there_twice(run: Run) -> None:
    put("mbox", FROM_LINE + message(1))
    assert run("import", "alice@example.org", "old/mbox")[0] == 0
    put("mbox", FROM_LINE + b"Status: RO\nX-Mozilla-Status: 0001\n" + message(1))
    assert run("import", "alice@example.org", "old/mbox")[1].endswith(
        "1 message already in alice@example.org.\n"
    )
    put("mbox", FROM_LINE + message(1)[:-2] + b"y\n")  # another body of the same size
    assert run("import", "alice@example.org", "old/mbox")[0] == 0
    assert stored() == {("INBOX", "1"): 2}


def test_the_same_moment_in_another_zone_is_the_same(run: Run) -> None:
    put("mbox", b"From a Thu Nov 26 11:00:00 2026 +0100\n" + message(1))
    assert run("import", "alice@example.org", "old/mbox")[0] == 0
    put("cur/1", message(1), 1795687200)
    assert "1 message already in" in run(*IMPORT)[1]


def test_ctrl_c_tells_what_is_done(run: Run) -> None:
    for number in range(8 * MOST_AT_ONCE):
        put(f"cur/{number}", message(number))
    command = [sys.executable, "-m", "pillarbox", *IMPORT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for_begin(process)
        process.send_signal(signal.SIGINT)
        told = process.communicate()[0]
    found = re.search(r"INBOX: (\d+) message", told)
    assert int(found[1] if found else 0) == stored().total()
    assert process.returncode != 0


def test_a_name_that_stdout_cannot_have_is_shown_by_its_numbers(run: Run) -> None:
    put("cur/1", message(1))
    command = [sys.executable, "-m", "pillarbox", *IMPORT, "--mailbox", "台北"]
    told = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}
    )
    assert told.stdout == b"\\u53f0\\u5317: 1 message imported.\n"


def test_where_nothing_is_it_is_said(run: Run) -> None:
    put("cur/1", message(1))
    Path("old/cur/1").unlink()
    assert run(*IMPORT) == (0, "There are no messages.\n", "")


def test_paths_that_are_no_text_are_told(run: Run) -> None:
    put(os.fsdecode(b"cur/caf\xe9"), b"")
    code, out, _ = run(*IMPORT, "--json")
    assert (code, json.loads(out)["left"]) == (
        1,
        [{"which": "old/cur/caf\\xe9", "why": "it is empty"}],
    )
    assert "old/cur/caf\\xe9: it is empty" in run(*IMPORT)[2]


def test_a_link_to_an_mbox_is_followed(run: Run) -> None:
    put("mbox", FROM_LINE + message(1))
    Path("link").symlink_to("old/mbox")
    assert run("import", "alice@example.org", "link")[0] == 0


def test_usual_names_are_for_the_top_alone(run: Run) -> None:
    put("cur/1", message(1))
    put(".Spam/cur/2", message(2))
    put(".Other Users.bob/cur/3", message(3))
    code, _, err = run(*IMPORT, "--mailbox", "Old")
    assert (code, err) == (0, "")
    code, _, err = run(*IMPORT)
    assert code == 1
    assert 'Left out: old/.Other Users.bob: below "Other Users" stand mailboxes of other' in err
    assert stored() == {
        ("Old", "1"): 1,
        ("Old/Spam", "2"): 1,
        ("Old/Other Users/bob", "3"): 1,
        ("INBOX", "1"): 1,
        ("Junk", "2"): 1,
    }


def test_what_was_done_before_a_failure_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MOST_AT_ONCE + 1):
        put(f"cur/{number}", message(number), 1_000_000_000 + number)
    append, calls = Store.append_all, []

    async def fails(store: Store, account: int, items: list[Append]) -> list[Appended]:
        calls.append(len(items))
        if len(calls) > 1:
            raise DiskFull()
        return await append(store, account, items)

    monkeypatch.setattr(Store, "append_all", fails)
    code, out, err = run(*IMPORT)
    assert (code, out) == (1, f"INBOX: {MOST_AT_ONCE} messages imported.\n")
    assert err == "pillarbox: the disk is full\n"


def test_what_stands_in_the_way_is_one_line(run: Run) -> None:
    for arguments, words in (
        (("import", "bob@example.org", "old"), "bob@example.org"),
        (("import", "alice@example.org", "none"), "none: No such file or directory"),
        (("import", "alice@example.org", "data"), "data is no Maildir"),
        (("import", "alice@example.org", "old", "--mailbox", "a//b"), "must not be empty"),
        (("import", "alice@example.org", "old", "--mailbox", "Other Users/b"), "other accounts"),
        (("import", "alice@example.org", "old", "--mailbox", os.fsdecode(b"caf\xe9")), "UTF-8"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert words in err
    put("cur/1", message(1))
    from pillarbox.store.place import lock_folder

    lock = lock_folder(Path("data"))
    try:
        assert "a server runs" in run(*IMPORT)[2]
    finally:
        os.close(lock)


def test_killed_at_any_time_and_repeated_nothing_is_lost_or_there_twice(run: Run) -> None:
    for number in range(MESSAGES):
        put(f"cur/{number}:2,S", message(number))
    halves = 0  # times that it was killed between two groups
    for wait_ms in range(0, 3000, 40):
        with subprocess.Popen([sys.executable, "-m", "pillarbox", *IMPORT], stdout=-3) as process:
            wait_for_begin(process)
            try:
                process.wait(0.001 * wait_ms)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == 0:
            break
        halves += 0 < stored().total() < MESSAGES
    assert halves
    assert run(*IMPORT)[0] == 0
    assert stored() == {("INBOX", str(number)): 1 for number in range(MESSAGES)}
    assert run("check") == (0, "The store is in order.\n", "")

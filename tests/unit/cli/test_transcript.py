"""How sessions become transcripts; that these are replayed, `tests/service/watching` shows."""

import stat
from pathlib import Path

import pytest

from pillarbox.app.watching import Shown
from pillarbox.cli.transcript import Transcript, Transcripts
from pillarbox.core.errors import Refused

OPENED = "connected to 127.0.0.1 port 1"


def written(service: str, *said: str | Shown, account: str = "") -> list[str]:
    """ "C: x" and "S: x" are lines."""
    transcript = Transcript(Shown(session="1", service=service, text=OPENED))
    for each in said:
        if isinstance(each, str):
            who = {"C": "client", "S": "server"}[each[0]]
            secret = each == "C: <secret>"
            each = Shown(service=service, who=who, text=each[3:], secret=secret, account=account)
        transcript.add(each)
    return [line for line in transcript.lines() if not line.startswith("#")]


def message(octets: int) -> Shown:
    return Shown(who="client", text=f"<{octets} octets of a message>", octets=octets)


def test_a_login_of_several_lines_becomes_one() -> None:
    plain = "AHVzZXJAZXhhbXBsZS5jb20AcGFzc3dvcmQ="
    assert written(
        "submission",
        "C: AUTH LOGIN",
        "S: 334 <challenge>",
        "C: <secret>",
        "S: 334 <challenge>",
        "C: <secret>",
        "S: 235 2.7.0 Authentication successful",
    ) == [f"C: AUTH PLAIN {plain}", "S: 235 2.7.0 Authentication successful"]
    assert written(
        "imap",
        "C: a LOGIN <secret>",
        "S: + OK",
        "C: <secret>",
        "S: + OK",
        "C: <secret>",
        "S: a OK [CAPABILITY X] Logged in",
    ) == ["C: a LOGIN user@example.com password", "S: a OK [CAPABILITY {text}] Logged in"]


def test_a_login_that_failed_fails_again() -> None:
    assert written("pop3", "C: USER al", "S: +OK", "C: PASS <secret>", "S: -ERR [AUTH] No") == [
        "C: USER user@example.com",
        "S: +OK",
        "C: PASS wrong-password",
        "S: -ERR [AUTH] No",
    ]


def test_a_login_that_was_refused_for_another_reason_is_refused_somehow() -> None:
    (_, answer) = written("imap", "C: a AUTHENTICATE <secret>", "S: a NO No such mechanism")
    assert answer == "S: {text}"


def test_the_account_is_that_of_the_runner() -> None:
    lines = written("submission", "C: MAIL FROM:<Al@Example.org>", account="al@example.org")
    assert lines == ["C: MAIL FROM:<user@example.com>"]


def test_a_chunk_has_the_size_of_what_stands_for_it() -> None:
    lines = written(
        "smtp", "C: BDAT 9999 LAST", message(9999), "S: 250 2.0.0 Ok: queued as 02H3M9P1", "C: QUIT"
    )
    assert lines == [
        "C: BDAT 38 LAST",
        "C: Subject: This stands for a message",
        "C: ",
        "S: 250 2.0.0 Ok: queued as {id}",
        "C: QUIT",
    ]


def test_a_literal_that_is_refused_is_skipped_by_the_server() -> None:
    """RFC 7888 §4: it comes all the same."""
    assert written("imap", "C: a APPEND x {999+}", "S: a NO [TRYCREATE] No", "C: b NOOP") == [
        "C: a APPEND x {0+}",
        "C: ",
        "S: a NO [TRYCREATE] No",
        "C: b NOOP",
    ]
    assert written("imap", "C: a APPEND x {999}", "S: a NO [TRYCREATE] No", "C: b NOOP") == [
        "C: a APPEND x {999}",
        "S: a NO [TRYCREATE] No",
        "C: b NOOP",
    ]


def test_two_messages_of_one_append_are_two() -> None:
    lines = written(
        "imap",
        "C: a APPEND x {5}",
        "S: + OK",
        message(5),
        "C:  (\\Seen) {6}",
        "S: + OK",
        message(6),
        "C: ",
        "S: a OK [APPENDUID 1795771522 7:8] Append completed.",
    )
    stand_in = ["C: Subject: This stands for a message", "C: "]
    assert lines == [
        "C: a APPEND x {38}",
        "S: + OK",
        *stand_in,
        "C:  (\\Seen) {38}",
        "S: + OK",
        *stand_in,
        "C: ",
        "S: a OK [APPENDUID {n} {n}:{n}] Append completed.",
    ]


def test_starttls_is_left_out_with_its_answer() -> None:
    assert written("imap", "C: a STARTTLS", "S: a OK Begin", "C: b NOOP", "S: b OK Done") == [
        "C: b NOOP",
        "S: b OK Done",
    ]


def test_what_came_between_commands_is_left_out() -> None:
    lines = written("imap", "C: a IDLE", "S: + idling", "S: * 3 EXISTS", "C: DONE", "S: a OK Done")
    assert lines == ["C: a IDLE", "S: + idling", "C: DONE", "S: a OK Done"]


def test_a_line_that_would_end_a_line_of_the_file_is_made_plain() -> None:
    (line,) = written("smtp", "C: NOOP a\x85b\u2028c\x0bd")
    assert line == "C: NOOP a?b?c?d"


def test_a_file_is_for_its_owner_only_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    first = Transcripts(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(Refused, match="exists already: name another file"):
        Transcripts(path)
    first.close()
    assert not path.exists()


def test_who_puts_another_file_in_its_place_gets_nothing(tmp_path: Path) -> None:
    """Root may save into somebody's folder."""
    path, victim = tmp_path / "x.txt", tmp_path / "victim"
    victim.write_text("as before")
    transcripts = Transcripts(path)
    path.unlink()
    path.symlink_to(victim)
    (tmp_path / "x-2.txt").symlink_to(victim)
    for _ in range(2):
        transcripts.add(Shown(session="1", service="pop3", text=OPENED))
        said = transcripts.add(Shown(session="1", service="pop3", text="closed"))
    assert "exists already" in said[0]
    assert victim.read_text() == "as before"


def test_a_session_of_a_worker_that_was_killed_is_saved_as_far_as_it_went(tmp_path: Path) -> None:
    transcripts = Transcripts(tmp_path / "x.txt")
    opened = Shown(session="2-1", service="pop3", text=OPENED)
    assert transcripts.add(opened) == []
    assert transcripts.add(Shown(session="2-1", who="server", text="+OK Pillarbox ready.")) == []
    (said,) = transcripts.add(opened)
    assert said.endswith("lines are missing in it")
    (said,) = transcripts.close()
    assert "x-2.txt: pop3 session 2-1" in said


def test_lines_that_were_not_shown_are_told_in_the_file(tmp_path: Path) -> None:
    transcripts = Transcripts(tmp_path / "x.txt")
    transcripts.add(Shown(session="1", service="pop3", text=OPENED))
    transcripts.add(Shown(missed=3))
    (said,) = transcripts.add(Shown(session="1", service="pop3", text="closed"))
    assert said.endswith("lines are missing in it")
    assert "LINES ARE MISSING" in (tmp_path / "x.txt").read_text()

"""The log: one line for each event, whatever is in it, in order."""

import ast
import asyncio
import json
import logging
from pathlib import Path

import pytest

import pillarbox
from pillarbox.app.log import JsonLines, LineHandler
from pillarbox.core.said import Said, SaidAddresses
from pillarbox.net.connection import SESSION


@pytest.fixture
def logger():
    logger = logging.Logger("pillarbox.test")
    logger.addHandler(LineHandler())
    return logger


def test_an_event_is_one_line_whatever_strangers_put_into_it(logger, capsys) -> None:
    logger.info("from=<%s>", "a\r\nfake\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"Z INFO pillarbox.test: from=<a\r\nfake\x1b[2J>")


def test_lines_of_a_turn_are_written_together_and_in_order(logger, capsys) -> None:
    async def main() -> None:
        for number in range(3):
            logger.info("%d", number)
        assert capsys.readouterr().err == ""
        await asyncio.sleep(0)
        lines = capsys.readouterr().err.splitlines()
        assert [line[-1] for line in lines] == ["0", "1", "2"]
        logger.info("last words")

    asyncio.run(main())
    logger.handlers[0].flush()
    assert capsys.readouterr().err.endswith("last words\n")


def test_the_stack_of_a_bug_follows_its_line(logger, capsys) -> None:
    try:
        raise ValueError("oh")
    except ValueError:
        logger.exception("a bug")
    out = capsys.readouterr().err
    assert "ERROR pillarbox.test: a bug\nTraceback" in out
    assert out.endswith("ValueError: oh\n")


# JSON


def json_logger(name: str) -> logging.Logger:
    logger = logging.Logger(name)
    logger.addHandler(LineHandler(JsonLines().format))
    return logger


def test_a_line_has_a_field_for_each_value_that_it_names(capsys) -> None:
    logger = json_logger("pillarbox.smtpd")
    logger.info(
        "id=%s from=<%s> size=%d connection=%s pause=%.1f %s", "Q1", "a@b", 7, "1-f", 0.5, "x"
    )
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"]) == ("INFO", "pillarbox.smtpd")
    assert (line["queue_id"], line["from"], line["size"], line["session"], line["pause"]) == (
        "Q1",
        "a@b",
        7,
        "1-f",
        0.5,
    )
    assert line["message"] == "id=Q1 from=<a@b> size=7 connection=1-f pause=0.5 x"


def test_whatever_strangers_write_is_one_line_of_json(capsys) -> None:
    json_logger("pillarbox.smtpd").info("from=<%s>", 'a\r\nfake "\x1b[2J\ud800')
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["from"].startswith('a\r\nfake "')


def test_json_has_what_a_peer_said_as_it_was_and_text_has_it_quoted(logger, capsys) -> None:
    name = "x client=8.8.8.8 reason=no"
    for each in (logger, json_logger("pillarbox.auth")):
        each.info("login failed: user=%s client=%s", Said(name), "192.0.2.1")
    text, line = capsys.readouterr().err.splitlines()
    quoted = r'user="x client\x3d8.8.8.8 reason\x3dno" client=192.0.2.1'
    assert text.endswith(quoted)
    fields = json.loads(line)
    assert (fields["user"], fields["client"]) == (name, "192.0.2.1")
    assert fields["message"].endswith(quoted)


def test_json_has_recipients_without_brackets(capsys) -> None:
    logger = json_logger("pillarbox.smtpd")
    logger.info("id=%s to=%s recipients=%d", "Q1", SaidAddresses(["a@b", "c@d"]), 2)
    line = json.loads(capsys.readouterr().err)
    assert (line["to"], line["recipients"]) == ("a@b,c@d", 2)
    assert line["message"] == "id=Q1 to=<a@b>,<c@d> recipients=2"


def test_the_stack_of_a_bug_is_a_field(capsys) -> None:
    try:
        raise ValueError("oh")
    except ValueError:
        json_logger("pillarbox.app").exception("a bug")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["stack"].endswith("ValueError: oh")


def test_lines_within_the_answer_to_a_client_have_its_session(capsys) -> None:
    SESSION.set("2-a")
    try:
        json_logger("pillarbox.auth").info("login failed: user=%s", "x")
        json_logger("pillarbox.smtpd").info("%s %s: refused", "3-b", "192.0.2.1")
        json_logger("pillarbox.queue").info("id=%s to=<%s>", "Q", "a@b")
    finally:
        SESSION.set("")
    json_logger("pillarbox.auth").info("nobody")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("session") for line in lines] == ["2-a", "3-b", None, None], (
        "tasks of the queue serve all sessions"
    )
    assert lines[1]["client"] == "192.0.2.1"


def test_lines_that_begin_with_two_values_are_of_sessions() -> None:
    """For their first two values are taken to be the session's id and the client's address."""
    found = 0
    root = Path(pillarbox.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and str(node.value).startswith("%s %s: "):
                found += 1
                assert path.relative_to(root).parts[0] in (
                    "net",
                    "smtpd",
                    "imapd",
                    "pop3d",
                    "app",
                ), path
    assert found > 5

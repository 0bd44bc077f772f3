"""The log: one line for each event, whatever is in it, in order."""

import asyncio
import logging

import pytest

from pillarbox.app.log import LineHandler


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

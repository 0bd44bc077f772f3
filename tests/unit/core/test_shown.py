"""What a server says, in lines for who looks on."""

import time

from pillarbox.core.engine import Heard
from pillarbox.core.shown import LONGEST_SHOWN, MOST_LINES, Answers
from pillarbox.imap.shown import answers as imap_answers
from pillarbox.pop3.shown import answers as pop3_answers
from pillarbox.smtp.shown import answers as smtp_answers


def plain(line: bytes) -> bytes:
    return line


def cut(answers: Answers, octets: bytes, size: int) -> list[bytes]:
    lines = []
    for start in range(0, len(octets), size):
        lines += answers.feed(octets[start : start + size])
    return lines


def test_any_cutting_gives_the_same_lines() -> None:
    octets = b"* 1 FETCH (UID 7 BODY[] {11}\r\na1 OK\r\n{3}\r FLAGS (\\Seen))\r\na1 OK Done.\r\n* BYE\r\n"
    for size in range(1, len(octets) + 1):
        lines = cut(imap_answers(is_lost=False), octets, size)
        assert lines == [
            b"* 1 FETCH (UID 7 BODY[] <11 octets> FLAGS (\\Seen))",
            b"a1 OK Done.",
            b"* BYE",
        ]


def test_a_message_by_pop3_is_told_by_its_size() -> None:
    octets = b"+OK 9 octets\r\nSubject: x\r\n\r\n..\r\n.\r\n+OK\r\n"
    for size in range(1, len(octets) + 1):
        answers = pop3_answers(is_lost=False)
        answers.heard(Heard(b"RETR 1"))
        assert cut(answers, octets, size) == [
            b"+OK 9 octets",
            b"<18 octets of a message>",
            b".",
            b"+OK",
        ]


def test_an_empty_message_by_pop3_ends_at_once() -> None:
    answers = pop3_answers(is_lost=False)
    answers.heard(Heard(b"top 1 0"))
    assert answers.feed(b"+OK\r\n.\r\n") == [b"+OK", b"<0 octets of a message>", b"."]


def test_a_refused_message_by_pop3_is_a_line() -> None:
    answers = pop3_answers(is_lost=False)
    answers.heard(Heard(b"RETR 9"))
    assert answers.feed(b"-ERR There is no such message\r\n") == [b"-ERR There is no such message"]
    assert answers.feed(b"+OK 1 2\r\n") == [b"+OK 1 2"]


def test_of_many_lines_some_are_shown_and_all_are_counted() -> None:
    answers = imap_answers(is_lost=False)
    line, literal = b"* LIST () NIL x\r\n", b'* LIST () "/" {7}\r\nname\r\n7\r\n'
    shown = answers.feed(line * (MOST_LINES + 5) + literal + line * 3 + b"* LI")
    assert len(shown) == MOST_LINES
    assert answers.missed == 5 + 1 + 3
    assert answers.feed(b"ST (\\Noselect) NIL y\r\n") == [b"* LIST (\\Noselect) NIL y"]


def test_thousands_of_literals_cost_little_and_leak_nothing() -> None:
    answers = imap_answers(is_lost=False)
    item = b"BODY[1] {6}\r\nsecret "
    octets = b"* 1 FETCH (" + item * 40_000 + b")\r\na OK secret\r\n"
    began = time.process_time()
    shown = answers.feed(octets)
    assert time.process_time() - began < 0.03
    assert shown == []
    assert answers.missed > 0
    assert answers.feed(b"secret\r\n* 2 EXISTS\r\n") == []
    answers.heard(Heard(b"b NOOP"))
    assert answers.feed(b"b OK\r\n") == [b"b OK"]


def test_what_is_kept_of_a_line_is_bounded() -> None:
    answers = Answers(plain)
    for _ in range(100):
        assert answers.feed(b"x" * 1000) == []
    (line,) = answers.feed(b"\r\n")
    assert line.startswith(b"xxx")
    assert line.endswith(b"octets more>")
    assert len(line) < LONGEST_SHOWN + 40


def test_who_comes_in_the_middle_of_something_waits_for_the_next_command() -> None:
    answers = imap_answers(is_lost=True)
    assert answers.feed(b"secret plans\r\n)\r\na1 OK Done\r\n") == []
    answers.heard(Heard(b"a2 NOOP"))
    assert answers.feed(b"a2 OK Done\r\n") == [b"a2 OK Done"]


def test_challenges_are_not_shown() -> None:
    assert smtp_answers(is_lost=False).feed(b"334 cj1hYmM=\r\n") == [b"334 <challenge>"]
    assert imap_answers(is_lost=False).feed(b"+ cj1hYmM=\r\n+ idling\r\n+ OK\r\n+ \r\n") == [
        b"+ <challenge>",
        b"+ idling",
        b"+ OK",
        b"+ ",
    ]
    assert pop3_answers(is_lost=False).feed(b"+ cj1hYmM=\r\n+OK\r\n") == [b"+ <challenge>", b"+OK"]


def test_a_tag_that_may_be_a_secret_is_not_shown_in_the_answer() -> None:
    answers = imap_answers(is_lost=False)
    answers.heard(Heard(b"<8 octets that are no command>", hidden_tag=b"cGFzcw=="))
    assert answers.feed(b"cGFzcw== BAD Unknown command\r\n") == [b"<tag> BAD Unknown command"]


def test_a_word_that_is_no_command_is_not_shown_in_the_answer() -> None:
    answers = imap_answers(is_lost=False)
    answers.heard(Heard(b"<14 octets that are no command>", hidden_tag=b"correct"))
    assert answers.feed(b"correct BAD Unknown command horse\r\n") == [b"<tag> BAD Unknown command"]

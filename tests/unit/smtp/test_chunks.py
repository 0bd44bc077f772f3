"""BDAT: order, answers and limits of chunks (RFC 3030)."""

import pytest
from test_server import HOST, MX, Session, greeted, in_transaction

from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp import reply as replies
from pillarbox.smtp.chunks import ChunkDecoder, parse_chunk
from pillarbox.smtp.events import BodyChunk, BodyEnd, DataStart, Mail, Rcpt, Reset
from pillarbox.smtp.options import Limits, ServerOptions


def body_of(session: Session) -> bytes:
    return b"".join(event.data for event in session.events if isinstance(event, BodyChunk))


def names(session: Session) -> list[str]:
    return [type(event).__name__ for event in session.events]


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"1 ", b"1 LAST x", b"x", b"1 FIRST", b"9" * 21, b"1LAST"]
)
def test_what_is_no_chunk_size_is_501(argument: bytes) -> None:
    assert parse_chunk(argument) is None
    if argument.strip() and not argument.endswith(b" "):  # white space at the end is tolerated
        assert in_transaction().code(b"BDAT " + argument) == "501 5.5.4"


def test_one_chunk() -> None:
    session = in_transaction()
    assert session.say(b"BDAT 9 LAST\r\na: b\r\n\r\nx") == b"250 2.0.0 Ok: queued as ABC123\r\n"
    assert names(session) == ["DataStart", "BodyChunk", "BodyEnd"]
    assert body_of(session) == b"a: b\r\n\r\nx"
    assert session.events[-1] == BodyEnd(9, False, False)
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


def test_a_message_goes_on_between_its_chunks() -> None:
    """So one that drips in chunks of an octet is found out like any other."""
    session = in_transaction()
    assert not session.engine.is_amid_message
    for more in (b"BDAT 3\r\na:", b"b", b"BDAT 4\r\n c\r\n"):
        session.say(more)
        assert session.engine.is_amid_message
    session.say(b"BDAT 0 LAST\r\n")
    assert not session.engine.is_amid_message


def test_every_chunk_is_answered_and_pipelined_commands_follow() -> None:
    session = greeted()
    said = session.codes(
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\na: b\r\nBDAT 3\r\n\r\nx"
        b"BDAT 0\r\nBDAT 0 last\r\nMAIL FROM:<e@f>\r\nNOOP\r\n"
    )
    assert said == ["250 2.1.0", "250 2.1.5", *["250 2.0.0"] * 4, "250 2.1.0", "250 2.0.0"]
    assert body_of(session) == b"a: b\r\n\r\nx"
    assert session.say(b"RSET\r\n") == b"250 2.0.0 Ok\r\n"


def test_the_answer_tells_how_much_came() -> None:
    assert in_transaction().say(b"BDAT 4\r\nabcd") == b"250 2.0.0 4 octets received\r\n"


def test_dots_and_commands_inside_of_a_chunk_are_text() -> None:
    text = b"a: b\r\n\r\n.\r\n..\r\nQUIT\r\n.\r\nDATA\r\n"
    session = in_transaction()
    session.say(b"BDAT %d LAST\r\n%b" % (len(text), text))
    assert body_of(session) == text


@pytest.mark.parametrize("before", [b"NOOP", b"EHLO x", b"EHLO x\r\nMAIL FROM:<a@b>"])
def test_a_chunk_out_of_order_is_swallowed_and_503(before: bytes) -> None:
    session = Session()
    session.say(before + b"\r\n")
    session.events.clear()
    assert session.codes(b"BDAT 6\r\nQUIT\r\nNOOP\r\n") == ["503 5.5.1", "250 2.0.0"]
    assert names(session) == ["Reset"]


def test_without_a_recipient_that_was_accepted_it_is_554() -> None:
    session = greeted()
    session.say(b"MAIL FROM:<a@b>\r\n")
    session.answers[Rcpt] = replies.MAILBOX_UNKNOWN
    assert session.codes(b"RCPT TO:<a@b>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [
        "550 5.1.1",
        "554 5.5.1",
        "250 2.0.0",
    ]


def test_too_big_is_said_behind_the_chunk_that_passes_the_limit() -> None:
    session = in_transaction()  # 1000 octets
    assert session.codes(b"BDAT 600\r\n" + b"x" * 600) == ["250 2.0.0"]
    assert session.say(b"BDAT 401 LAST\r\n" + b"x" * 400) == b""
    assert session.codes(b"xNOOP\r\n") == ["552 5.3.4", "250 2.0.0"]
    assert isinstance(session.events[-1], Reset)
    assert len(body_of(session)) == 600
    assert session.code(b"MAIL FROM:<a@b>") == "250 2.1.0"


def test_chunks_behind_a_failed_one_are_swallowed_however_many() -> None:
    """RFC 3030 §2: a pipeline may be full of them."""
    session = in_transaction()
    said = session.codes(b"BDAT 1001\r\n" + b"x" * 1001 + b"BDAT 6\r\nQUIT\r\n" * 50 + b"NOOP\r\n")
    assert said == ["552 5.3.4", *["503 5.5.1"] * 50, "250 2.0.0"]
    assert not session.engine.closing


def test_a_message_of_many_small_chunks_is_no_abuse() -> None:
    limits = Limits(commands=20)
    session = in_transaction(ServerOptions(HOST, 1000, limits=limits))
    assert session.codes(b"BDAT 1\r\nx" * 200 + b"BDAT 0 LAST\r\n") == ["250 2.0.0"] * 201


def test_rset_between_chunks_clears_the_message() -> None:
    session = in_transaction()
    assert session.codes(b"BDAT 4\r\nabcdRSET\r\n") == ["250 2.0.0", "250 2.0.0"]
    assert names(session) == ["DataStart", "BodyChunk", "Reset"]
    assert session.codes(b"BDAT 4 LAST\r\nabcd") == ["503 5.5.1"]


def test_data_after_bdat_and_recipients_after_bdat_are_503() -> None:
    session = in_transaction()
    assert session.codes(b"BDAT 4\r\nabcdDATA\r\nRCPT TO:<x@y>\r\nBDAT 0 LAST\r\n") == [
        "250 2.0.0",
        "503 5.5.1",
        "503 5.5.1",
        "250 2.0.0",
    ]


def test_binarymime_demands_bdat() -> None:
    session = greeted()
    session.say(b"MAIL FROM:<a@b> BODY=BinaryMime\r\nRCPT TO:<c@d>\r\n")
    assert isinstance(session.events[0], Mail)
    assert session.code(b"DATA") == "503 5.5.1"
    assert session.codes(b"BDAT 2 LAST\r\n\0\r") == ["250 2.0.0"]
    assert body_of(session) == b"\0\r"
    session.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    assert session.code(b"DATA") == "354 End d"  # nothing of it stays


@pytest.mark.parametrize("reply", [replies.STORAGE_FULL, replies.MAILBOX_FULL])
def test_a_service_that_declines_is_heard_behind_the_octets(reply: replies.Reply) -> None:
    session = in_transaction()
    session.answers[DataStart] = reply
    assert session.say(b"BDAT 6\r\nQUI") == b""
    assert session.codes(b"T\r\nBDAT 6 LAST\r\nQUIT\r\n") == [
        f"{reply.code} {reply.enhanced}",
        "503 5.5.1",
    ]


def test_a_service_that_closes_is_heard_at_once() -> None:
    session = in_transaction()
    session.answers[DataStart] = replies.SHUTTING_DOWN
    assert session.codes(b"BDAT 6\r\n") == ["421 4.3.2"]
    assert session.engine.closing


def test_a_stop_ends_a_message_between_its_chunks_but_not_its_last() -> None:
    session = in_transaction()
    session.say(b"BDAT 4\r\nab")
    session.engine.shut_down()
    assert session.codes(b"cd") == ["421 4.3.2"]
    session = in_transaction()
    session.say(b"BDAT 4 LAST\r\nab")
    session.engine.shut_down()
    assert session.codes(b"cd") == ["250 2.0.0", "421 4.3.2"]


def test_silence_inside_of_a_chunk_is_timed() -> None:
    session = in_transaction(MX)
    session.say(b"BDAT 4\r\nab")
    assert session.engine.timeout() == 300.0
    session.engine.timed_out()
    assert session.engine.data_to_send() == [b"421 4.4.2 Timeout, closing transmission channel\r\n"]


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n\r.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\n",
        b"\r\n\0.\r\n",
    ],
)
def test_nothing_but_its_size_ends_a_chunk_and_bare_line_ends_are_told(smuggled: bytes) -> None:
    """The smuggling table of DATA, by BDAT: each cutting into chunks and reads says the same."""
    text = b"a: b\r\n\r\nfirst" + smuggled + b"MAIL FROM:<evil@example.com>\r\n"
    for cut in range(len(text)):
        chunks = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (cut, text[:cut], len(text) - cut, text[cut:])
        session = in_transaction()
        for octet in chunks:
            session.say(bytes([octet]))
        assert body_of(session) == text
        assert session.events[-1] == BodyEnd(len(text), has_bare_cr_or_lf(smuggled), False)


def test_a_final_cr_is_bare() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"a\r\nb\r") == b"a\r\nb"
    assert not decoder.bare_cr_or_lf
    assert (decoder.finish(), decoder.bare_cr_or_lf, decoder.size) == (b"\r", True, 5)
    assert decoder.finish() == b""


def test_a_refused_chunk_far_beyond_any_message_is_not_waited_for() -> None:
    session = greeted()
    assert session.codes(b"BDAT 99999999999999999999 LAST\r\nx") == ["503 5.5.1"]
    assert session.engine.closing
    session = in_transaction()
    size = MX.size_limit_bytes + 1
    session.say(b"BDAT %d LAST\r\n" % size)
    assert not session.engine.closing

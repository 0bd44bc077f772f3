"""Replies on the wire, and the table of them (RFC 5321 §4.2, RFC 2034)."""

from pillarbox.smtp import reply as replies
from pillarbox.smtp.reply import Reply, format_reply

TABLE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


def test_one_line() -> None:
    assert format_reply(replies.SENDER_OK) == b"250 2.1.0 Ok\r\n"
    assert format_reply(Reply(250, "", "host")) == b"250 host\r\n"


def test_each_line_has_both_codes() -> None:
    wire = format_reply(Reply(550, "5.7.1", "no\nnever"))
    assert wire == b"550-5.7.1 no\r\n550 5.7.1 never\r\n"


def test_no_text_can_break_out_of_a_reply() -> None:
    wire = format_reply(Reply(550, "5.1.1", "x\r250 Ok\0\x7f\té"))
    assert wire == b"550 5.1.1 x?250 Ok??\t?\r\n"
    assert (
        format_reply(Reply(550, "5.1.1", "x\r\n250 Ok")) == b"550-5.1.1 x?\r\n550 5.1.1 250 Ok\r\n"
    )


def test_reply_lines_stay_under_512_octets() -> None:
    lines = format_reply(Reply(550, "5.1.10", "x" * 2000)).splitlines(keepends=True)
    assert len(lines) == 5
    assert all(len(line) <= 512 for line in lines)


def test_empty_lines_stay() -> None:
    assert format_reply(Reply(214, "2.0.0", "a\n\nb")).count(b"\r\n") == 3


def test_every_reply_of_the_table_has_an_enhanced_code_of_its_class() -> None:
    assert len(TABLE) > 40
    for name, reply in TABLE.items():
        assert bool(reply.enhanced) == (reply.code // 100 != 3), name
        assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0], name
        assert format_reply(reply).count(b"\r\n") == 1, name


def test_421_says_that_the_channel_closes() -> None:
    assert {reply.enhanced[:2] for reply in TABLE.values() if reply.code == 421} == {"4."}


def test_texts_that_people_and_scripts_know() -> None:
    assert format_reply(replies.greeting("mail.example.com")) == (
        b"220 mail.example.com ESMTP Pillarbox\r\n"
    )
    assert format_reply(replies.queued("ABC123")) == b"250 2.0.0 Ok: queued as ABC123\r\n"
    assert format_reply(replies.START_MAIL_INPUT) == b"354 End data with <CR><LF>.<CR><LF>\r\n"
    assert format_reply(replies.BYE) == b"221 2.0.0 Bye\r\n"
    assert format_reply(replies.AUTHENTICATED) == b"235 2.7.0 Authentication successful\r\n"

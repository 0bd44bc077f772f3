"""Reports that mail programs can read (RFC 3464, 6522, 6533), and who gets one (RFC 3461)."""

from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import cast

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.dsn.build import MAX_RETURNED, Report, Reported, build_report
from pillarbox.dsn.wishes import (
    Action,
    Wish,
    decode_address,
    decode_unitext,
    decode_xtext,
    encode_unitext,
    encode_xtext,
    merge,
    original_recipient,
    wants,
    without_success,
)

MESSAGE = b"From: me@us.example\r\nSubject: Hello\r\nMessage-ID: <1@us.example>\r\n\r\nText\r\n"
BOB = Reported(
    "Bob@there.example",
    Action.FAILED,
    "5.1.1",
    orcpt="rfc822;Bob+2Bx@alias.example",
    remote_mta="mx.there.example",
    diagnostic="550 5.1.1 No such user\nAsk somebody else",
    explanation="The mailbox does not exist.\nCheck the spelling of the address.",
    last_attempt=pack_date(1_000_000_000),
)
REPORT = Report(
    "REPORT1",
    "mx.us.example",
    "postmaster@us.example",
    "me@us.example",
    pack_date(1_000_000_100, 60),
    [BOB],
    MESSAGE,
    arrival=pack_date(999_999_000),
    envid="id+2B7",
)


def parts(report: Report) -> tuple[EmailMessage, list[EmailMessage]]:
    built = build_report(report)
    assert built is not None
    assert built.octets.count(b"\n") == built.octets.count(b"\r\n")
    message = cast(EmailMessage, message_from_bytes(built.octets, policy=SMTP))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    return message, cast(list[EmailMessage], message.get_payload())


def blocks(status: EmailMessage) -> list[dict[str, str]]:
    payload = cast(list[EmailMessage], status.get_payload())
    return [{name: str(value) for name, value in block.items()} for block in payload]


def test_a_bounce_says_it_to_people_and_to_programs() -> None:
    message, [text, status, returned] = parts(REPORT)
    assert message["To"] == "me@us.example"
    assert message["From"] == "Mail Delivery System <postmaster@us.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@us.example>"
    assert message["Message-ID"] == "<REPORT1@mx.us.example>"
    assert message["Date"] == "Sun, 09 Sep 2001 02:48:20 +0100"
    words = " ".join(text.get_content().split())
    assert words.startswith(
        "This is the mail system at mx.us.example. Your message was not delivered"
    )
    assert "<Bob@there.example> (you wrote to <Bob+x@alias.example>) The mailbox does not" in words
    assert "The server mx.there.example said: 550 5.1.1 No such user Ask somebody" in words
    assert status.get_content_type() == "message/delivery-status"
    assert blocks(status) == [
        {
            "Original-Envelope-Id": "id+7",
            "Reporting-MTA": "dns; mx.us.example",
            "Arrival-Date": "Sun, 9 Sep 2001 01:30:00 +0000",
        },
        {
            "Original-Recipient": "rfc822;Bob+x@alias.example",
            "Final-Recipient": "rfc822;Bob@there.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.there.example",
            "Diagnostic-Code": "smtp; 550 5.1.1 No such user Ask somebody else",
            "Last-Attempt-Date": "Sun, 9 Sep 2001 01:46:40 +0000",
        },
    ]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content().encode() == MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n"


def test_the_null_path_gets_no_report() -> None:
    assert build_report(replace(REPORT, reverse_path="")) is None


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        ("", "failed delayed"),
        ("NEVER", ""),
        ("SUCCESS", "delivered relayed expanded"),
        ("success,Failure", "failed delivered relayed expanded"),
        ("DELAY", "delayed"),
    ],
)
def test_notify_says_what_is_told(notify: str, wanted: str) -> None:
    assert {action.value for action in Action if wants(notify, action)} == set(wanted.split())
    never = replace(REPORT, recipients=[replace(BOB, notify=notify)])
    assert (build_report(never) is not None) == ("failed" in wanted)


def test_only_those_who_are_to_be_told_of_stand_in_a_report() -> None:
    # RFC 3461 §5.2.8
    quiet = replace(BOB, address="quiet@there.example", notify="NEVER")
    built = build_report(replace(REPORT, recipients=[quiet, BOB]))
    assert built is not None
    assert b"quiet" not in built.octets


def test_a_notice_of_delay_says_that_nothing_need_be_done() -> None:
    late = replace(
        BOB,
        action=Action.DELAYED,
        status="4.4.1",
        remote_mta="",
        retry_until=pack_date(1_000_400_000),
    )
    message, [text, status, _] = parts(replace(REPORT, recipients=[late], ret="FULL"))
    assert message["Subject"] == "Your message is delayed, and is being tried again"
    assert "You need not send it again" in text.get_content()
    fields = blocks(status)[1]
    assert fields["Action"] == "delayed"
    assert fields["Will-Retry-Until"] == "Thu, 13 Sep 2001 16:53:20 +0000"
    assert "Remote-MTA" not in fields


def test_ret_full_returns_the_message_of_a_failure_only() -> None:
    full = replace(REPORT, ret="FULL")
    _, [_, _, returned] = parts(full)
    assert returned.get_content_type() == "message/rfc822"
    assert b"\r\nText\r\n" in returned.as_bytes()
    for other in (
        replace(REPORT, ret="HDRS"),
        replace(full, recipients=[replace(BOB, action=Action.DELAYED)]),
        replace(full, message=MESSAGE + b"x" * MAX_RETURNED),
    ):
        _, [_, _, returned] = parts(other)
        assert returned.get_content_type() == "text/rfc822-headers"
        assert b"Text" not in returned.as_bytes()


def test_eight_bit_text_is_returned_as_it_is() -> None:
    built = build_report(replace(REPORT, ret="FULL", message=MESSAGE + b"caf\xe9\r\n"))
    assert built is not None
    assert not built.octets.isascii()
    assert b"Content-Transfer-Encoding: 8bit" in built.octets.partition(b"\r\n\r\n")[0]
    assert b"\r\ncaf\xe9\r\n" in built.octets


@pytest.mark.parametrize(
    ("header", "kind"),
    [("Subject: café", "message/global-headers"), ("Subject: caf\udce9", "text/rfc822-headers")],
)
def test_headers_with_8_bit_octets_travel_quoted(header: str, kind: str) -> None:
    octets = header.encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    _, [_, _, returned] = parts(replace(REPORT, message=octets))
    assert returned.get_content_type() == kind
    assert returned["Content-Transfer-Encoding"] == "quoted-printable"


def test_international_addresses_are_utf_8() -> None:
    report = replace(REPORT, recipients=[replace(BOB, address="jörg@there.example")])
    built = build_report(report)
    assert built is not None
    assert not built.utf8
    _, [_, status, _] = parts(report)
    assert status.get_content_type() == "message/global-delivery-status"
    assert b"utf-8;j=C3=B6rg@there.example" in built.octets
    built = build_report(replace(REPORT, reverse_path="jörg@us.example"))
    assert built is not None
    assert built.utf8


def test_nothing_in_a_reply_or_address_can_make_a_field() -> None:
    hostile = replace(
        BOB,
        address="a\r\nX-Evil: 1@x",
        orcpt="rfc822;a+0D+0AX-Evil: 2",
        diagnostic="550 x\r\nX-Evil: 3\n\nX-Evil: 4\x00é",
        explanation="fine\r\n\r\n--report_REPORT1\r\nX-Evil: 5",
    )
    report = replace(
        REPORT, recipients=[hostile], reverse_path="me\r\nX-Evil: 6@x", envid="+0AX-Evil"
    )
    message, found = parts(report)
    assert len(found) == 3
    assert "X-Evil" not in message
    assert all("X-Evil" not in part for part in found)
    assert all("X-Evil" not in block for block in blocks(found[1]))


def test_the_boundary_is_in_no_part() -> None:
    message = MESSAGE.replace(b"Hello", b"Hello\r\n --report_REPORT1")
    _, found = parts(replace(REPORT, message=message))
    assert len(found) == 3


def test_lines_are_short_and_huge_headers_are_cut() -> None:
    huge = b"Subject: x\r\n" + b"X-Fill: " + b"y" * 900 + b"\r\n"
    report = replace(
        REPORT, message=huge * 500, recipients=[replace(BOB, diagnostic="550 " + "word " * 2000)]
    )
    built = build_report(report)
    assert built is not None
    assert len(built.octets) < 80_000
    assert max(map(len, built.octets.split(b"\r\n"))) <= 998


def test_xtext_goes_both_ways() -> None:
    # RFC 3461 §4
    assert encode_xtext("a+b=c d\r\né") == "a+2Bb+3Dc+20d+0D+0A+C3+A9"
    assert decode_xtext("a+2Bb+3Dc+zz") == "a+b=c+zz"


def test_success_is_taken_from_the_notify_of_an_alias() -> None:
    assert without_success("SUCCESS,FAILURE") == "FAILURE"
    assert without_success("SUCCESS") == "NEVER"
    assert without_success("NEVER") == "NEVER"


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("", "", ""),
        ("NEVER", "NEVER", "NEVER"),
        ("", "NEVER", "FAILURE,DELAY"),
        ("NEVER", "SUCCESS", "SUCCESS"),
        ("DELAY", "success,Failure", "DELAY,SUCCESS,FAILURE"),
    ],
)
def test_who_is_reached_in_two_ways_is_reported_if_either_asks(one, other, both) -> None:
    assert merge(Wish(one), Wish(other)).notify == both
    assert merge(Wish(one, "rfc822;a"), Wish(other, "rfc822;b")).orcpt == "rfc822;a"
    assert merge(Wish(one), Wish(other, "rfc822;b")).orcpt == "rfc822;b"


def test_an_original_recipient_that_is_too_long_is_left_out() -> None:
    assert original_recipient("a+b@x") == "rfc822;a+2Bb@x"
    assert original_recipient("+" * 200 + "@x") == ""


def test_addresses_in_utf8_have_a_form_of_seven_bits() -> None:
    """RFC 6533 §3"""
    for address in ("jö@bücher.example", "a b+c=d\\@x", "用户@例え.jp", "😀@x"):
        encoded = encode_unitext(address)
        assert encoded.isascii()
        assert not set(encoded) & set(" +=")
        assert decode_unitext(encoded) == address
    assert original_recipient("jö@x") == "utf-8;j\\x{F6}@x"
    assert decode_address("UTF-8;j\\x{F6}+41@x") == ("UTF-8", "jö+41@x")
    assert decode_address("rfc822;a+2Bb@x") == ("rfc822", "a+b@x")
    assert decode_unitext("\\x{D800}\\x{110000}") == "\\x{D800}\\x{110000}"


def test_a_report_shows_addresses_in_utf8_as_they_are() -> None:
    """RFC 6533 §4.1"""
    jo = replace(BOB, address="jö@there.example", orcpt="utf-8;J\\x{F6}@alias.example")
    _, [_, status, _] = parts(replace(REPORT, recipients=[jo]))
    assert status.get_content_type() == "message/global-delivery-status"
    text = status.as_bytes().decode("ascii", "replace")
    assert "Original-Recipient: utf-8;J=C3=B6@alias.example" in text
    assert "Final-Recipient: utf-8;j=C3=B6@there.example" in text

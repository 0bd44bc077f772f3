"""Replies of known servers are understood; the texts follow the form of real ones."""

import re
import time

import pytest

from pillarbox.outbound.reply_table import ADVICE, ROWS, Cause, Who
from pillarbox.outbound.translate import MAX_EXAMINED, gist, translate
from pillarbox.smtp.client_reply import parse_reply
from pillarbox.smtp.reply import Reply

SAID = {
    # Gmail
    "550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
    "550-5.1.1 double-checking the recipient's email address for typos or unnecessary spaces.\n"
    "550 5.1.1 https://support.google.com/mail/?p=NoSuchUser x1-20020a - gsmtp": Cause.NO_MAILBOX,
    "550 5.2.1 The email account that you tried to reach is inactive. x1 - gsmtp": Cause.MAILBOX_DISABLED,
    "452 4.2.2 The recipient's inbox is out of storage space. OverQuotaTemp x1 - gsmtp": Cause.MAILBOX_FULL,
    "550-5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires\n"
    "550 5.7.26 all senders to authenticate with either SPF or DKIM. x1 - gsmtp": Cause.NOT_AUTHENTICATED,
    "550-5.7.25 The IP address sending this message does not have a PTR record setup, or the\n"
    "550 5.7.25 corresponding forward DNS entry does not match. x1 - gsmtp": Cause.NO_REVERSE_DNS,
    "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP\n"
    "421 4.7.28 address. x1 - gsmtp": Cause.RATE_LIMITED,
    "550-5.7.1 Gmail has detected that this message is likely unsolicited mail. To reduce the\n"
    "550 5.7.1 amount of spam sent to Gmail, this message has been blocked. x1 - gsmtp": Cause.SPAM,
    "552-5.7.0 This message was blocked because its content presents a potential security issue.\n"
    "552 5.7.0 x1 - gsmtp": Cause.MALWARE,
    "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents"
    " additional messages from being delivered. x1 - gsmtp": Cause.RATE_LIMITED,
    # Microsoft
    "550 5.4.1 Recipient address rejected: Access denied. [AB1PR01.eurprd01.prod.example]": Cause.NO_MAILBOX,
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient bob@there.example not found": Cause.NO_MAILBOX,
    "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your ISP since"
    " part of their network is on our block list (S3140).": Cause.BLOCKED,
    "550 5.7.606 Access denied, banned sending IP [192.0.2.1]": Cause.BLOCKED,
    "550 5.7.515 Access denied, sending domain us.example doesn't meet the required authentication"
    " level.": Cause.NOT_AUTHENTICATED,
    "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)": Cause.RATE_LIMITED,
    "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required": Cause.NOT_ALLOWED,
    "554 5.4.14 Hop count exceeded - possible mail loop ATTR34": Cause.LOOP,
    # Yahoo
    "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user"
    " complaints - 4.16.55.1": Cause.RATE_LIMITED,
    "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1": Cause.BLOCKED,
    "554 30 Sorry, your message to bob@yahoo.example cannot be delivered. This mailbox is disabled"
    " (554.30).": Cause.MAILBOX_DISABLED,
    "552 1 Requested mail action not taken: mailbox unavailable": Cause.NO_MAILBOX,
    # Postfix
    "550 5.1.1 <bob@there.example>: Recipient address rejected: User unknown in virtual mailbox table":
        Cause.NO_MAILBOX,
    "450 4.2.0 <bob@there.example>: Recipient address rejected: Greylisted, see"
    " http://postgrey.example/": Cause.GREYLISTED,
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.example":
        Cause.LISTED,
    "554 5.7.1 <bob@there.example>: Relay access denied": Cause.RELAY_DENIED,
    "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]": Cause.NO_REVERSE_DNS,
    "450 4.1.8 <me@us.example>: Sender address rejected: Domain not found": Cause.SENDER_REJECTED,
    "552 5.3.4 Error: message file too big": Cause.TOO_BIG,
    "452 4.3.1 Insufficient system storage": Cause.SERVER_TROUBLE,
    "452 4.5.3 Error: too many recipients": Cause.TOO_MANY_RECIPIENTS,
    "530 5.7.0 Must issue a STARTTLS command first": Cause.TLS_REQUIRED,
    "554 5.4.6 Error: too many hops": Cause.LOOP,
    "421 4.7.0 mx.there.example Error: too many connections from 192.0.2.1": Cause.RATE_LIMITED,
    # Exim
    "550 Unrouteable address": Cause.NO_MAILBOX,
    "550 relay not permitted": Cause.RELAY_DENIED,
    "550-Verification failed for <me@us.example>\n550 Sender verify failed": Cause.SENDER_REJECTED,
    "451 Temporary local problem - please try later": Cause.SERVER_TROUBLE,
    "550 message has lines too long for transport": Cause.CONTENT,
    # Others
    "550 No such user here": Cause.NO_MAILBOX,
    "552 Mailbox quota exceeded": Cause.MAILBOX_FULL,
    "554 Rejected due to DMARC policy of us.example": Cause.NOT_AUTHENTICATED,
    "535 5.7.8 Error: authentication failed": Cause.AUTH_REQUIRED,
    "554 5.7.1 The message contains a virus: Eicar": Cause.MALWARE,
    # Only a code tells
    "550 5.1.2 nope": Cause.NO_DOMAIN,
    "556 5.1.10 nope": Cause.NO_DOMAIN,
    "550 5.7.1 nope": Cause.POLICY,
    "451 4.4.3 nope": Cause.DNS_TROUBLE,
    "550 5.7.23 nope": Cause.NOT_AUTHENTICATED,
    "552 nope": Cause.TOO_BIG,
}  # fmt: skip


def reply_of(said: str) -> Reply:
    lines = said.split("\n")
    return parse_reply(int(lines[0][:3]), [line[4:].encode() for line in lines])


@pytest.mark.parametrize("said", SAID, ids=lambda said: said[:50])
def test_known_replies_have_a_cause(said: str) -> None:
    translation = translate(reply_of(said))
    assert translation is not None
    assert translation.cause is SAID[said], translation.evidence


@pytest.mark.parametrize(
    ("host", "cause", "setting"),
    [
        ("spam.example.com [192.0.2.1]:25", Cause.UNREACHABLE, "the recipient's admin"),
        ("the smarthost a [192.0.2.1]:587", Cause.RELAY_UNREACHABLE, "outbound.smarthost"),
        ("the configured host a [192.0.2.1]:24", Cause.RELAY_UNREACHABLE, "outbound.routes"),
    ],
)
def test_who_can_help_depends_on_who_named_the_host_that_is_not_reached(
    host: str, cause: Cause, setting: str
) -> None:
    meaning = translate(Reply(451, "4.4.1", f"cannot connect to {host}: Connection refused"))
    assert meaning is not None
    assert meaning.cause is cause
    assert setting in meaning.advice


def test_the_evidence_is_what_was_said() -> None:
    reply = Reply(450, "4.2.0", "<bob@there.example>: rejected: GreyListed, wait")
    translation = translate(reply)
    assert translation is not None
    assert translation.evidence == "GreyList"
    assert translation.who is Who.NOBODY
    assert str(translation).startswith("The receiving server makes strangers wait")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(550, "", "42"),
        Reply(554, "5.0.0", "nope"),
        Reply(499, "", ""),
        Reply(550, "5.9.9", "é"),
    ],
)
def test_unknown_replies_are_unknown(reply: Reply) -> None:
    assert translate(reply) is None


def test_every_cause_has_advice_and_rows_are_lower_case() -> None:
    assert set(ADVICE) == set(Cause)
    for pattern, _, _ in ROWS:
        assert not re.search("[A-Z]", re.sub(r"\\[A-Z]", "", pattern)), pattern


@pytest.mark.parametrize(
    "text",
    [
        "5.7.26 ",
        "user ",
        "account that you tried to reach is ",
        "client host ",
        "recipient ",
        "a" * 9,
    ],
)
def test_a_hostile_text_costs_little(text: str) -> None:
    reply = Reply(550, "", text * (16384 // len(text)))
    start = time.thread_time()
    translate(reply)
    assert time.thread_time() - start < 0.2
    assert MAX_EXAMINED < 16384


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(450, "4.9.9", "Ticket 4711 for <bob@x.org>"), "450 4.9.9 Ticket N for <ADDRESS>"),
        (Reply(550, "", "id=02H3K2H0Q9 at 192.0.2.1\nsorry"), "550 id=N at N sorry"),
        (Reply(550, "5.0.0", "a" * 5000), "550 5.0.0 " + "a" * 190),
    ],
)
def test_the_gist_of_a_reply_is_the_same_for_all_messages(reply: Reply, expected: str) -> None:
    assert gist(reply) == expected

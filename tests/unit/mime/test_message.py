from pillarbox.core.dates import format_rfc5322_date
from pillarbox.mime.header import MAX_VALUE
from pillarbox.mime.message import parse_message

# RFC 3501 §8
EXAMPLE = b"""\
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

text
""".replace(b"\n", b"\r\n")


def test_envelope_of_the_rfc_example() -> None:
    assert parse_message(EXAMPLE).envelope == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) '
        b'NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )


def test_structure_of_the_rfc_example() -> None:
    message = parse_message(EXAMPLE)
    assert message.body == b'("text" "plain" ("charset" "US-ASCII") NIL NIL "7bit" 6 1)'
    assert message.bodystructure == message.body[:-1] + b" NIL NIL NIL NIL)"


def test_thread_and_sort_keys() -> None:
    message = parse_message(
        EXAMPLE.replace(b"Subject: ", b"Subject: Re: ").replace(
            b"MIME-", b'In-Reply-To: <no> <"a"@b> <c@d>\r\nMIME-'
        )
    )
    assert message.sent is not None
    assert format_rfc5322_date(message.sent) == b"Wed, 17 Jul 1996 02:23:25 -0700"
    assert (message.keys.base_subject, message.keys.is_reply) == (
        "IMAP4REV1 WG MTG SUMMARY AND MINUTES",
        True,
    )
    assert (message.keys.from_key, message.keys.to_key, message.keys.cc_key) == (
        "GRAY",
        "IMAP",
        "MINUTES",
    )
    assert message.message_id == b"B27397-0100000@cac.washington.edu"
    assert message.references == [b"a@b"]


def test_references_count_before_in_reply_to() -> None:
    message = parse_message(b"References: <a@b>\r\n\t<c@\r\n d>\r\nIn-Reply-To: <e@f>\r\n\r\n")
    assert message.references == [b"a@b", b"c@d"]
    assert parse_message(b"References: x\r\nIn-Reply-To: <e@f>\r\n\r\n").references == [b"e@f"]


def test_empty_is_not_absent_in_an_envelope() -> None:
    octets = b"Subject:\r\nTo: \r\nFrom: a@b\r\nSender:\r\n\r\n"
    a = b'((NIL NIL "a" "b"))'
    assert parse_message(octets).envelope == (
        b'(NIL "" ' + b" ".join((a, a, a)) + b" NIL NIL NIL NIL NIL)"
    )
    assert parse_message(b"").envelope == b"(" + b" ".join([b"NIL"] * 10) + b")"


def test_eight_bit_values_are_literals_as_they_came() -> None:
    message = parse_message("Subject: gr\xfcn\r\n\r\n".encode("latin-1"))
    assert message.envelope.startswith(b"(NIL {4}\r\ngr\xfcn NIL")
    assert message.keys.base_subject == "GRU\u0308N"


def test_memoryview_is_as_good_as_bytes() -> None:
    assert parse_message(memoryview(EXAMPLE)) == parse_message(EXAMPLE)


def test_no_value_is_longer_than_its_bound() -> None:
    message = parse_message(b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\n")
    assert len(message.envelope) < MAX_VALUE + 100
    assert len(parse_message(b"To: " + b"Foo <a@b.example>, " * 60_000).envelope) < 60_000


def test_bodystructure_has_all_extension_data() -> None:
    octets = b"""\
Content-Type: multipart/mixed; boundary=b
Content-Language: en, fr

--b
Content-Type: application/pdf; name="a b.pdf"
Content-ID: <1@x>
Content-Description: A thing
Content-Transfer-Encoding: BASE64
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: attachment; filename="a b.pdf"
Content-Language: en
Content-Location: http://x.example/

AAAA
--b
Content-Type: message/rfc822

Subject: in

hi
--b--
"""
    nil_envelope = b'(NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL)'
    charset = b'("charset" "us-ascii")'
    assert parse_message(octets).bodystructure == (
        b'(("application" "pdf" ("name" "a b.pdf") "<1@x>" "A thing" "base64" 4'
        b' "Q2hlY2sgSW50ZWdyaXR5IQ==" ("attachment" ("filename" "a b.pdf")) "en" '
        b'"http://x.example/")("message" "rfc822" NIL NIL NIL "7bit" 15 '
        + nil_envelope
        + b' ("text" "plain" '
        + charset
        + b' NIL NIL "7bit" 2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)'
        b' "mixed" ("boundary" "b") NIL ("en" "fr") NIL)'
    )

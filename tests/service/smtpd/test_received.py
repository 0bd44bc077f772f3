"""The Received field (RFC 5321 §4.4, RFC 3848)."""

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.smtpd.received import Origin, format_origin, format_received


@pytest.mark.parametrize(
    ("extended", "tls", "authenticated", "protocol"),
    [
        (False, "", False, "SMTP"),
        (True, "", False, "ESMTP"),
        (True, "TLSv1.3 X", False, "ESMTPS"),
        (True, "", True, "ESMTPA"),
        (True, "TLSv1.3 X", True, "ESMTPSA"),
    ],
)
def test_the_protocol_is_one_of_rfc_3848(
    extended: bool, tls: str, authenticated: bool, protocol: str
) -> None:
    field = format_origin(Origin("a", extended, "", tls, authenticated), "b").decode()
    assert field.endswith(f"\r\n\twith {protocol} id ")


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.1", " ([192.0.2.1])"),
        ("2001:db8::1", " ([IPv6:2001:db8::1])"),
        ("fe80::1%eth0", " ([IPv6:fe80::1])"),
        ("::ffff:192.0.2.1", " ([192.0.2.1])"),
        ("", ""),
    ],
)
def test_the_client_is_an_address_literal(address: str, literal: str) -> None:
    field = format_origin(Origin("[192.0.2.9]", True, address, "", False), "b").decode()
    assert field.startswith(f"Received: from [192.0.2.9]{literal}\r\n\tby b\r\n")


@pytest.mark.parametrize("hello", ["(a)b", "a;b", 'a"b', "a\\b", "a<b>c"])
def test_an_odd_hello_cannot_break_the_field(hello: str) -> None:
    field = format_origin(Origin(hello, True, "", "", False), "b").decode()
    assert field.startswith("Received: from ")
    assert not set('()";\\<>') & set(field)


def test_only_a_single_recipient_is_named() -> None:
    date = pack_date(0)
    origin = b"Received: from a\r\n\tby b\r\n\twith SMTP id "
    assert format_received(origin, "Q", "x@y", date) == (
        origin + b"Q\r\n\tfor <x@y>; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
    )
    assert format_received(origin, "Q", "", date).endswith(
        b"id Q; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
    )

import pytest

from pillarbox.core.dates import format_rfc5322_date
from pillarbox.mime.date import parse_date


@pytest.mark.parametrize(
    ("raw", "same_as"),
    [
        (b"Wed, 17 Jul 1996 02:44:25 -0700", b"Wed, 17 Jul 1996 02:44:25 -0700"),
        (b"17 Jul 96 02:44:25 PDT", b"Wed, 17 Jul 1996 02:44:25 -0700"),
        (b"Wed, 17 Jul 1996 02:44:25 -0700 (PDT)", b"Wed, 17 Jul 1996 02:44:25 -0700"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", b"Fri, 21 Nov 1997 09:55:06 -0600"),
        (b"Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32 -0330", b"Thu, 13 Feb 1969 23:32:00 -0330"),
        (b"21 Nov 97 09:55:06 GMT", b"Fri, 21 Nov 1997 09:55:06 +0000"),
        (b"1 Jan 49 00:00 UT", b"Fri, 1 Jan 2049 00:00:00 +0000"),
        (b"1 Jan 50 00:00 Z", b"Sun, 1 Jan 1950 00:00:00 +0000"),
        (b"1 Jan 100 00:00 A", b"Sat, 1 Jan 2000 00:00:00 +0000"),
        (b"Mon, 1 January 2024 1:02:03 XYZ", b"Mon, 1 Jan 2024 01:02:03 +0000"),
        (b"Fri Oct  7 16:15:05 1994", b"Fri, 7 Oct 1994 16:15:05 +0000"),
        # RFC 5256 §2.2: an invalid zone is UTC, an invalid time 00:00:00
        (b"1 Jan 2024 10:00:00 +9999", b"Mon, 1 Jan 2024 10:00:00 +0000"),
        (b"1 Jan 2024 25:00:00 +0100", b"Mon, 1 Jan 2024 00:00:00 +0100"),
        (b"1 Jan 2024", b"Mon, 1 Jan 2024 00:00:00 +0000"),
        (b"30 Jun 2015 23:59:60 +0000", b"Wed, 1 Jul 2015 00:00:00 +0000"),
    ],
)
def test_dates(raw: bytes, same_as: bytes) -> None:
    packed = parse_date(raw)
    assert packed is not None
    assert format_rfc5322_date(packed) == same_as


@pytest.mark.parametrize(
    "raw", [b"", b"yesterday", b"31 Feb 2024 00:00:00 +0000", b"1 Foo 2024", b"1 Jan 0000", b"1" * 99]
)  # fmt: skip
def test_unusable_dates_are_none(raw: bytes) -> None:
    assert parse_date(raw) is None

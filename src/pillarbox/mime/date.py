"""The Date field as a packed date (RFC 5322 §3.3, obsolete forms §4.3)."""

import re
from datetime import date

from pillarbox.core.dates import MONTHS, pack_date
from pillarbox.mime.comments import remove_comments

_MAX_DATE = 1000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}

# The form that nearly all mail has; anything else goes the long way to the same result.
_USUAL = re.compile(
    rb"(?:[A-Za-z]{3}, )?(\d\d?) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4}) "
    rb"([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60) ([+-])([01]\d|2[0-3])([0-5]\d)(?: \([A-Z]+\))?"
)
_DAY_FIRST = re.compile(rb"(?<!\d)(\d{1,2})[ -]?([A-Za-z]{3})[a-z]*[., -]{0,3}(\d{2,4})(?!\d)")
# C's asctime, as some programs write it.
_MONTH_FIRST = re.compile(
    rb"(?<![A-Za-z])([A-Za-z]{3}) (\d{1,2})[ ,]+(?:[\d:]{5,8} (?:[A-Z]{1,5} )?)?(\d{4})(?!\d)"
)
_TIME = re.compile(rb"(?<!\d)(\d{1,2}) ?: ?(\d{1,2})(?: ?: ?(\d{1,2}))?(?!\d)")
_ZONE = re.compile(rb" ?(?:([+-]) ?(\d\d)(\d\d)(?!\d)|([A-Za-z]+))")

# RFC 5322 §4.3. Military letters and unknown names mean -0000.
_ZONE_MINUTES = {
    b"EST": -300, b"EDT": -240, b"CST": -360, b"CDT": -300,
    b"MST": -420, b"MDT": -360, b"PST": -480, b"PDT": -420,
}  # fmt: skip


def parse_date(raw: bytes) -> int | None:
    """The value of a Date field, packed (`core.dates`); None without a usable day, month and year.

    An unusable time is 00:00:00 and an unusable zone is UTC (RFC 5256 §2.2).
    `b"Wed, 17 Jul 1996 02:44:25 -0700"` -> the same as `b"17 Jul 96 02:44:25 (Wed) PDT"`.
    """
    usual = _USUAL.fullmatch(raw)
    if usual is None:
        return _parse_tolerant(raw)
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = usual.groups()
    zone = int(zone_hours) * 60 + int(zone_minutes)
    return _pack(
        (int(year), _MONTH[month.lower()], int(day)),
        int(hour) * 3600 + int(minute) * 60 + int(second),
        -zone if sign == b"-" else zone,
    )


def _parse_tolerant(raw: bytes) -> int | None:
    value = b" ".join(remove_comments(raw[:_MAX_DATE]).split())
    found = _DAY_FIRST.search(value)
    if found is not None:
        day, name, year_digits = found.groups()
        position = found.end()
    else:
        found = _MONTH_FIRST.search(value)
        if found is None:
            return None
        name, day, year_digits = found.groups()
        position = found.start(2)
    month = _MONTH.get(name.lower())
    if month is None:
        return None
    year = int(year_digits)
    if len(year_digits) == 2 and year < 50:  # RFC 5322 §4.3
        year += 2000
    elif len(year_digits) < 4:
        year += 1900
    second_of_day, zone = _parse_time(value, position)
    return _pack((year, month, int(day)), second_of_day, zone)


def _parse_time(value: bytes, position: int) -> tuple[int, int]:
    """Second of the day, and zone in minutes, of the time of day that stands after `position`."""
    found = _TIME.search(value, position)
    if found is None:
        return 0, 0
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    second_of_day = hour * 3600 + minute * 60 + second
    if hour > 23 or minute > 59 or second > 60:
        second_of_day = 0
    zone = _ZONE.match(value, found.end())
    if zone is None:
        return second_of_day, 0
    if zone[4] is not None:
        return second_of_day, _ZONE_MINUTES.get(zone[4].upper(), 0)
    minutes = int(zone[2]) * 60 + int(zone[3])
    if int(zone[2]) > 23 or int(zone[3]) > 59:
        return second_of_day, 0
    return second_of_day, -minutes if zone[1] == b"-" else minutes


def _pack(day: tuple[int, int, int], second_of_day: int, zone: int) -> int | None:
    try:
        ordinal = date(*day).toordinal()
    except ValueError:
        return None
    return pack_date((ordinal - _EPOCH_DAY) * 86400 + second_of_day - zone * 60, zone)

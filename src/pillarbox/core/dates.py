"""A moment with its zone in one sortable integer: epoch seconds << 12 | (zone minutes + 2048).

IMAP's INTERNALDATE and SEARCH ON need the zone that the date came with (RFC 9051 §2.3.3, §6.4.4), sorting
needs the moment; packed, a stored date is one narrow column that sorts by moment.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

_ZONE_BITS = 12
_ZONE_ZERO = 2048
_ZONE_MASK = 4095

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIRST_S = (date.min.toordinal() - _EPOCH_ORDINAL) * 86400
LAST_S = (date.max.toordinal() - _EPOCH_ORDINAL + 1) * 86400 - 1
"""Epoch seconds of the end of the year 9999."""

_MINUTES = tuple(b"%02d:%02d:" % divmod(minute, 60) for minute in range(24 * 60))

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")  # fmt: skip


def pack_date(epoch_s: int, zone_minutes: int = 0) -> int:
    """Epoch seconds (may be negative) and zone in minutes east of UTC (-1439 to 1439)."""
    if not -1440 < zone_minutes < 1440:
        raise ValueError("zone out of range")
    return epoch_s << _ZONE_BITS | (zone_minutes + _ZONE_ZERO)


def epoch_of(packed: int) -> int:
    """Epoch seconds of a packed date."""
    return packed >> _ZONE_BITS


def zone_of(packed: int) -> int:
    """Zone in minutes east of UTC of a packed date."""
    return (packed & _ZONE_MASK) - _ZONE_ZERO


def local_day(packed: int) -> int:
    """Days since 1970-01-01 as read on the calendar of the date's own zone (for SEARCH ON, SENTON...)."""
    return (epoch_of(packed) + zone_of(packed) * 60) // 86400


def to_datetime(packed: int) -> datetime:
    """As an aware datetime in its own zone; clamped to the years 1 to 9999."""
    zone = timezone(timedelta(minutes=zone_of(packed)))
    try:
        return datetime.fromtimestamp(epoch_of(packed), zone)
    except (OverflowError, ValueError, OSError):
        edge = datetime.min if packed < 0 else datetime.max
        return edge.replace(microsecond=0, tzinfo=UTC)


@lru_cache(maxsize=4096)
def _format_day(day: int) -> bytes:
    """`b'"17-Jul-1996 '` from days since 1970-01-01."""
    moment = date.fromordinal(day + _EPOCH_ORDINAL)
    return b'"%2d-%b-%04d ' % (moment.day, MONTHS[moment.month - 1], moment.year)


@lru_cache(maxsize=256)
def _format_zone(zone: int) -> bytes:
    """`b' -0700"'`."""
    sign, zone = (b"-", -zone) if zone < 0 else (b"+", zone)
    return b' %b%02d%02d"' % (sign, zone // 60, zone % 60)


def format_internaldate(packed: int) -> bytes:
    """`b'"17-Jul-1996 02:44:25 -0700"'`, quotes included (RFC 9051 §9, date-time); clamped to the years 1 to 9999.

    Without datetime, whose arithmetic would take most of the time of a FETCH of many dates.
    """
    zone = (packed & _ZONE_MASK) - _ZONE_ZERO
    local_s = (packed >> _ZONE_BITS) + zone * 60
    day, second = divmod(min(max(local_s, _FIRST_S), LAST_S), 86400)
    minute, second = divmod(second, 60)
    return b"%b%b%02d%b" % (_format_day(day), _MINUTES[minute], second, _format_zone(zone))


def format_rfc5322_date(packed: int) -> bytes:
    """`b"Wed, 17 Jul 1996 02:44:25 -0700"` (RFC 5322 §3.3)."""
    moment = to_datetime(packed)
    zone = zone_of(packed)
    sign, zone = (b"-", -zone) if zone < 0 else (b"+", zone)
    day = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")[moment.weekday()]
    return b"%b, %d %b %04d %02d:%02d:%02d %b%02d%02d" % (
        day,
        moment.day,
        MONTHS[moment.month - 1],
        moment.year,
        moment.hour,
        moment.minute,
        moment.second,
        sign,
        zone // 60,
        zone % 60,
    )

"""Dates, addresses, ids, endpoints."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.core.address import Address, canonical_domain
from pillarbox.core.dates import (
    epoch_of,
    format_internaldate,
    format_rfc5322_date,
    local_day,
    pack_date,
    zone_of,
)
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.ids import format_queue_id


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-1439, 1439))
def test_a_packed_date_gives_back_moment_and_zone(epoch_s: int, zone: int) -> None:
    packed = pack_date(epoch_s, zone)
    assert (epoch_of(packed), zone_of(packed)) == (epoch_s, zone)
    assert local_day(packed) == (epoch_s + zone * 60) // 86400
    assert format_internaldate(packed).count(b":") == 2


def test_packed_dates_sort_by_moment() -> None:
    assert pack_date(100, 1439) < pack_date(101, -1439)


def test_wire_forms_of_a_date() -> None:
    packed = pack_date(int(datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC).timestamp()), -420)
    assert format_internaldate(packed) == b'"17-Jul-1996 02:44:25 -0700"'
    assert format_rfc5322_date(packed) == b"Wed, 17 Jul 1996 02:44:25 -0700"


@pytest.mark.parametrize(
    ("domain", "canonical"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_domains_have_one_form(domain: str, canonical: str) -> None:
    assert canonical_domain(domain) == canonical


@pytest.mark.parametrize(
    "domain", ["", ".", "a..b", "-a.org", "a b.org", "x" * 64 + ".org", "a/b.org"]
)
def test_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(ValueError):
        canonical_domain(domain)


def test_local_parts_are_quoted_where_they_must_be() -> None:
    assert str(Address("a.b", "x.org")) == "a.b@x.org"
    assert str(Address('a b"c', "x.org")) == '"a b\\"c"@x.org'
    assert str(Address("a..b", "x.org")) == '"a..b"@x.org'


def test_queue_ids_sort_by_time_and_have_no_vowels() -> None:
    ids = [format_queue_id(1_790_000_000_000_000 + step, 5) for step in (0, 1, 10**6)]
    assert ids == sorted(ids)
    assert not set("AEIOUaeiou") & set("".join(ids))


def test_endpoints() -> None:
    assert parse_endpoint("127.0.0.1:25") == ("127.0.0.1", 25)
    assert parse_endpoint("[::1]:0") == ("::1", 0)
    for bad in ("25", "::1:25", "host:", "host:99999", ":25", "host:x"):
        with pytest.raises(ValueError):
            parse_endpoint(bad)

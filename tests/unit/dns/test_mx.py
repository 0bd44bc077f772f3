"""The route to a domain (RFC 5321 §5.1, RFC 7505), answered from a zone dict."""

from collections.abc import Callable
from itertools import count

import pytest

from pillarbox.dns.mx import Host, NoRoute, OwnHost, Route, find_route
from pillarbox.dns.query import Answer, Mx, Query, Record, RecordType, Status

FAILS = "SERVFAIL"
Zone = dict[str, dict[str, list[Record]] | str]
"""Name -> records by type, the target of a CNAME, or FAILS."""

OWN = OwnHost(frozenset({"us.example", "alias.example"}), frozenset({"192.0.2.99"}))
ZONE: Zone = {
    "us.example": {"A": ["192.0.2.99"]},
    "mx1.example": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1", "2001:db8::2"]},
    "mx2.example": {"A": ["192.0.2.3"]},
    "mx3.example": {"A": ["192.0.2.4"]},
    "behind-us.example": {"A": ["192.0.2.99"]},
    "no-address.example": {},
    "broken.example": FAILS,
    "half.example": {"A": ["192.0.2.5"], "AAAA": [b"not an address"]},
}


def mx(*records: tuple[int, str]) -> Zone:
    return {**ZONE, "d.example": {"MX": [Mx(preference, host) for preference, host in records]}}


def answer(zone: Zone, query: Query) -> Answer:
    name = query.name
    while isinstance(target := zone.get(name), str) and target != FAILS:
        name = target
    if target is None:
        return Answer(Status.NO_SUCH_NAME, name, ttl_s=60)
    if isinstance(target, str):
        return Answer(Status.FAILED, name)
    return Answer(Status.OK, name, tuple(target.get(query.type.name, ())), 300)


def resolve(
    zone: Zone,
    domain: str = "d.example",
    own: OwnHost = OWN,
    random: Callable[[], float] | None = None,
) -> Route | NoRoute:
    numbers = count()
    asking = find_route(domain, own, random or (lambda: float(next(numbers))))
    try:
        queries = next(asking)
        while True:
            queries = asking.send([answer(zone, query) for query in queries])
    except StopIteration as stop:
        result = stop.value
        assert isinstance(result, Route | NoRoute)
        return result


def names(result: Route | NoRoute) -> list[str]:
    assert isinstance(result, Route), result
    return [host.name for host in result.hosts]


def status(result: Route | NoRoute) -> tuple[int, str]:
    assert isinstance(result, NoRoute), result
    return result.code, result.enhanced


def test_lowest_preference_comes_first() -> None:
    zone = mx((30, "mx3.example"), (10, "mx1.example"), (20, "mx2.example"))
    assert names(resolve(zone)) == ["mx1.example", "mx2.example", "mx3.example"]


def test_equal_preferences_are_shuffled() -> None:
    zone = mx((10, "mx1.example"), (10, "mx2.example"), (5, "mx3.example"))
    ascending, descending = count(), count(9, -1)
    assert names(resolve(zone, random=lambda: next(ascending)))[1:] == [
        "mx1.example",
        "mx2.example",
    ]
    assert names(resolve(zone, random=lambda: next(descending)))[1:] == [
        "mx2.example",
        "mx1.example",
    ]


def test_addresses_alternate_between_ipv6_and_ipv4_in_the_order_of_the_answer() -> None:
    route = resolve(mx((10, "mx1.example")))
    mixed = ("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2")
    assert route == Route((Host("mx1.example", 10, mixed),), (), 300)
    only4 = OwnHost(ipv6=False)
    assert resolve(mx((10, "mx1.example")), own=only4) == Route(
        (Host("mx1.example", 10, ("192.0.2.1", "192.0.2.2")),), (), 300
    )


def test_without_mx_the_domain_is_its_own_mail_host() -> None:
    assert resolve(ZONE, "mx2.example") == Route((Host("mx2.example", 0, ("192.0.2.3",)),), (), 300)


def test_with_mx_the_addresses_of_the_domain_are_not_used() -> None:
    zone = mx((10, "no-address.example"))
    zone["d.example"] = {"MX": [Mx(10, "no-address.example")], "A": ["192.0.2.7"]}
    assert status(resolve(zone)) == (550, "5.4.4")


@pytest.mark.parametrize("preference", [0, 10])
def test_null_mx_is_refused_at_once(preference: int) -> None:
    result = resolve(mx((preference, "")))
    assert status(result) == (556, "5.1.10")
    assert isinstance(result, NoRoute)
    assert result.permanent
    assert result.ttl_s == 300


def test_a_null_mx_among_others_is_ignored() -> None:
    assert names(resolve(mx((0, ""), (10, "mx2.example")))) == ["mx2.example"]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({}, (550, "5.1.2")),
        ({"d.example": FAILS}, (451, "4.4.3")),
        ({"d.example": {}}, (550, "5.4.4")),
        (mx((1, "no-address.example"), (2, "gone.example")), (550, "5.4.4")),
        (mx((1, "no-address.example"), (2, "broken.example")), (451, "4.4.3")),
        (mx((1, "us.example"), (2, "mx2.example")), (554, "5.4.6")),
        (mx((1, "broken.example"), (2, "us.example")), (451, "4.4.3")),
        (mx((1, "us.example"), (2, "broken.example")), (554, "5.4.6")),
    ],
)
def test_what_cannot_be_routed(zone: Zone, expected: tuple[int, str]) -> None:
    result = resolve(zone)
    assert status(result) == expected
    assert isinstance(result, NoRoute)
    assert result.permanent == (expected[0] >= 500)


def test_a_host_that_cannot_be_looked_up_leaves_the_others() -> None:
    result = resolve(mx((1, "broken.example"), (2, "gone.example"), (3, "half.example")))
    assert names(result) == ["half.example"]
    assert [unused.name for unused in result.unused] == ["broken.example", "gone.example"]


@pytest.mark.parametrize("ours", ["us.example", "alias.example", "behind-us.example"])
def test_own_host_cuts_the_list(ours: str) -> None:
    zone = mx((10, "mx1.example"), (20, "mx2.example"), (20, ours), (30, "mx3.example"))
    result = resolve(zone)
    assert names(result) == ["mx1.example"]
    assert {unused.name for unused in result.unused} == {"mx2.example", ours, "mx3.example"}


def test_a_cname_leads_to_the_records_of_its_target() -> None:
    zone = {
        **mx((10, "mx2.example")),
        "alias-of-d.example": "d.example",
        "to-us.example": "us.example",
    }
    assert names(resolve(zone, "alias-of-d.example")) == ["mx2.example"]
    assert status(resolve(zone, "to-us.example")) == (554, "5.4.6")


def test_international_domains_are_asked_for_in_a_labels() -> None:
    zone = {**ZONE, "xn--bcher-kva.example": {"MX": [Mx(1, "mx2.example")]}}
    assert names(resolve(zone, "Bücher.example.")) == ["mx2.example"]


@pytest.mark.parametrize("domain", ["", "a..b", "x" * 64 + ".example", "a b"])
def test_what_is_no_domain_is_refused_without_a_question(domain: str) -> None:
    with pytest.raises(StopIteration) as stop:
        next(find_route(domain, OWN, lambda: 0.0))
    assert status(stop.value.value) == (550, "5.1.2")


@pytest.mark.parametrize(
    ("literal", "address"),
    [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:DB8:0::7]", "2001:db8::7")],
)
def test_address_literals_are_their_own_route(literal: str, address: str) -> None:
    assert resolve({}, literal) == Route((Host(literal, 0, (address,)),))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [("[192.0.2.99]", "5.4.6"), ("[192.0.2]", "5.1.2"), ("[IPv6:x]", "5.1.2"), ("[", "5.1.2")],
)
def test_address_literals_that_lead_nowhere(literal: str, expected: str) -> None:
    assert status(resolve({}, literal))[1] == expected


def test_a_host_that_stands_there_twice_is_tried_once() -> None:
    assert names(resolve(mx((1, "mx2.example"), (5, "mx2.example")))) == ["mx2.example"]


def test_two_rounds_of_questions_are_enough() -> None:
    asking = find_route("d.example", OWN, lambda: 0.0)
    assert next(asking) == [Query("d.example", RecordType.MX)]
    zone = mx((1, "mx1.example"), (2, "mx2.example"))
    second = asking.send([answer(zone, Query("d.example", RecordType.MX))])
    assert len(second) == 4
    with pytest.raises(StopIteration):
        asking.send([answer(zone, query) for query in second])

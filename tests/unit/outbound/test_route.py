"""Which rule is for a domain, and where its mail is grouped."""

import asyncio

import pytest

from pillarbox.dns.mx import OwnHost
from pillarbox.net.resolver import Resolver
from pillarbox.outbound.route import SMARTHOST, Route, Router, Rule
from pillarbox.smtp.client_events import TlsMode

INNER = Rule("inner.example", 25)
BELOW = Rule("below.example", 24, lmtp=True, from_strangers=True)
BY_MX = Rule()
RELAY = Rule("relay.example", 587)


def router(rules: dict[str, Rule]) -> Router:
    return Router(
        Resolver([("127.0.0.1", 9)]), OwnHost(), "me.example", rules=rules, mx_port=25, random=float
    )


RULES = {
    "one.example": INNER,
    "*.one.example": BELOW,
    "deep.two.example": BY_MX,
    "*.two.example": INNER,
    SMARTHOST: RELAY,
}


@pytest.mark.parametrize(
    ("domain", "next_hop", "rule"),
    [
        ("one.example", "one.example", INNER),
        ("a.one.example", "*.one.example", BELOW),
        ("a.b.one.example", "*.one.example", BELOW),
        ("two.example", SMARTHOST, RELAY),
        ("a.two.example", "*.two.example", INNER),
        ("deep.two.example", "deep.two.example", BY_MX),
        ("none.example", SMARTHOST, RELAY),
        ("[192.0.2.1]", SMARTHOST, RELAY),
    ],
)
def test_the_closest_rule_counts_and_the_smarthost_last(domain, next_hop, rule) -> None:
    found = router(RULES)
    assert found.next_hop(domain) == next_hop
    assert found.rule(domain)[1] is rule
    assert found.next_hop_of(f"x@{domain.upper()}") == next_hop


def test_hosts_that_the_configuration_names_are_told_from_those_of_the_dns() -> None:
    found = router({"one.example": Rule("192.0.2.1", 24), SMARTHOST: Rule("192.0.2.2", 587)})

    async def role(next_hop: str) -> str:
        route = await found.find(next_hop)
        assert isinstance(route, Route)
        return route.hosts[0].role

    assert asyncio.run(role("one.example")) == "the configured host"
    assert asyncio.run(role(SMARTHOST)) == "the smarthost"


def test_without_rules_each_domain_is_its_own_hop() -> None:
    assert router({}).next_hop_of("x@Bücher.example") == "xn--bcher-kva.example"
    assert router({}).rule("a.example") == ("a.example", None)
    assert router({"*.b.example": INNER}).next_hop("a.example") == "a.example"


def test_strangers_may_send_where_a_rule_says_so() -> None:
    found = router(RULES)
    assert found.takes_from_strangers("A.One.Example")
    for domain in ("one.example", "none.example", "a.two.example", "-", "", "[192.0.2.1]"):
        assert not found.takes_from_strangers(domain)
    assert not router({}).takes_from_strangers("a.one.example")


def test_a_domain_is_routed_where_a_host_is_named_for_it() -> None:
    assert router(RULES).is_routed("A.One.Example")
    assert router({SMARTHOST: RELAY}).is_routed("any.example")
    assert not router({SMARTHOST: RELAY}).is_routed("-")
    assert not router({}).is_routed("any.example")
    assert not router({"a.example": Rule(tls=TlsMode.ALWAYS)}).is_routed("a.example")

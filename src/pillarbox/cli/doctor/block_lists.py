"""Whether lists of senders of spam have an address of this host. Asked only when told to: the operators of lists count.

A list tells a listing by an address of 127.0.0.0/8, and 127.255.255.0/24 says that the question itself was no good
(through a public resolver, too many): nothing about the address. Each list is first asked for an address that all have
(127.0.0.2) and one that none has (127.0.0.1), so that a list that died or lists everything is not believed.
"""

import asyncio
import ipaddress

from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.cli.doctor.lookup import Found, Lookup

_LISTED = ipaddress.ip_network("127.0.0.0/8")
_REFUSED = ipaddress.ip_network("127.255.255.0/24")


async def check_block_lists(case: Case) -> list[Finding]:
    """A finding for each configured list."""
    addresses = await case.lookup.addresses(case.host) or []
    public = [each for each in addresses if ipaddress.ip_address(each).is_global]
    if not public:
        advice = "give the hostname its public addresses first"
        return [warning("block list", case.host, "there is no public address to ask for", advice)]
    zones = case.config.doctor.block_lists
    return list(await asyncio.gather(*(_check_list(case.lookup, each, public) for each in zones)))


async def _check_list(lookup: Lookup, zone: str, addresses: list[str]) -> Finding:
    always, never, *answers = await asyncio.gather(
        *(lookup.ask(question(each, zone), "A") for each in ("127.0.0.2", "127.0.0.1", *addresses))
    )
    if why := _why_unusable(always, never, answers):
        advice = (
            "use a resolver of your own (dns.servers), or take the list out of doctor.block_lists"
        )
        return warning("block list", zone, f"the list is unusable: {why}", advice)
    listed = [
        f"{address} ({', '.join(answer.values)})"
        for address, answer in zip(addresses, answers, strict=True)
        if answer.values
    ]
    if listed:
        advice = f"find the cause, then ask for removal at the site of {zone}"
        return error("block list", zone, f"it lists {', '.join(listed)}", advice)
    return ok("block list", zone, f"does not list {', '.join(addresses)}")


def _why_unusable(always: Found, never: Found, answers: list[Found]) -> str:
    everything = [always, never, *answers]
    values = [ipaddress.ip_address(value) for found in everything for value in found.values]
    for value in values:
        if value in _REFUSED:
            return f"it answers {value}, which refuses the question"
        if value not in _LISTED:
            return f"it answers {value}, which is no answer of a list"
    if any(found.failed for found in everything):
        return "it gives no answer"
    if never.values:
        return "it lists everything"
    return "" if always.values else "it lists nothing, not even its test entry"


def question(address: str, zone: str) -> str:
    """Example: ("192.0.2.1", "list.example") -> "1.2.0.192.list.example"; of IPv6, hexadecimal digits."""
    pointer = ipaddress.ip_address(address).reverse_pointer
    return f"{pointer.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone}"

"""Whether SPF (RFC 7208) lets this host send for a domain: its record, worked out for the addresses of the host.

The mechanisms are those that need only the address; exists, ptr and macros depend on the single message or on names
that others set, and a record whose answer hangs on them is told to be unknown.
"""

import ipaddress
from dataclasses import dataclass

from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.cli.doctor.lookup import DNS_ADVICE, DNS_SILENT, Lookup

MOST_LOOKUPS = 10
"""RFC 7208 §4.6.4 limit"""

MOST_VOID = 2
"""RFC 7208 §4.6.4 limit: of look-ups that find nothing."""

_RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


class SpfFailed(Exception):
    """Why the record has no result: `result` is "permerror", "temperror" or "unknown"."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result
        self.text = text


async def check_spf(case: Case, domain: str) -> list[Finding]:
    """Of the domain, and of the host's own name, for a bounce has no other (RFC 7208 §2.4)."""
    findings = [await _check_record(case, domain, "v=spf1 mx -all")]
    if not case.config.outbound.smarthost and case.host.endswith(f".{domain}"):
        findings.append(await _check_record(case, case.host, "v=spf1 a -all"))
    return findings


async def _check_record(case: Case, name: str, proposed: str) -> Finding:
    answer = await case.lookup.ask(name, "TXT")
    if answer.failed:
        return error("spf", name, DNS_SILENT, DNS_ADVICE)
    records = [value for value in answer.values if _is_spf(value)]
    if not records:
        advice = f'set: {name}. IN TXT "{proposed}"'
        return warning("spf", name, "there is no SPF record: much mail will be distrusted", advice)
    if len(records) > 1:  # RFC 7208 §4.5
        return error("spf", name, f"{len(records)} SPF records: none of them counts", "leave one")
    record = records[0]
    if case.config.outbound.smarthost:
        return await _check_for_smarthost(case, name, record)
    addresses = await case.lookup.addresses(case.host)
    if not addresses:
        advice = "give the hostname its addresses first"
        return warning("spf", name, f'"{record}" cannot be tried without an address', advice)
    return await _check_addresses(case, name, record, addresses)


async def _check_addresses(case: Case, name: str, record: str, addresses: list[str]) -> Finding:
    for address in addresses:
        try:
            result = await evaluate(case.lookup, name, address)
        except SpfFailed as failure:
            make = error if failure.result == "permerror" else warning
            advice = f'correct the record; the simplest is: {name}. IN TXT "v=spf1 mx -all"'
            return make("spf", name, f'"{record}": {failure.text}', advice)
        if result != "pass":
            advice = f"add {'ip6' if ':' in address else 'ip4'}:{address} before the last word"
            found = f'"{record}" gives {result} for {address}, an address of this host'
            return error("spf", name, found, advice)
    if _lets_all(record):
        advice = "end it with -all or ~all"
        return warning("spf", name, f'"{record}" lets everybody send in your name', advice)
    return ok("spf", name, f'"{record}" lets {", ".join(addresses)} send')


async def _check_for_smarthost(case: Case, name: str, record: str) -> Finding:
    """Mail goes out by a provider whose addresses we do not know: the record must at least be a good one."""
    try:
        await evaluate(case.lookup, name, "192.0.2.1")
    except SpfFailed as failure:
        if failure.result == "permerror":
            found = f'"{record}": {failure.text}'
            return error("spf", name, found, "correct the record as your provider describes it")
    smarthost = case.config.outbound.smarthost
    if not {"include", "redirect"} & {term.name for term in map(_parse_term, record.split()[1:])}:
        advice = f"add what the provider of {smarthost} asks for, like include:NAME"
        return warning("spf", name, f'"{record}" includes no provider', advice)
    return ok("spf", name, f'"{record}" (whether it has {smarthost}, only its provider can tell)')


async def evaluate(lookup: Lookup, domain: str, address: str) -> str:
    """check_host() of RFC 7208 §4 for an address: "pass", "fail", "softfail" or "neutral". Raises SpfFailed."""
    return await _Evaluation(lookup, address).run(domain)


@dataclass(slots=True)
class _Term:
    qualifier: str
    name: str
    value: str
    """Behind ":" or "="; of "a/24" it is "/24"."""
    is_modifier: bool


def _is_spf(text: str) -> bool:
    return text.split(" ")[0].lower() == "v=spf1"  # RFC 7208 §4.5


def _lets_all(record: str) -> bool:
    return any(word.lower() in ("all", "+all") for word in record.split())


def _parse_term(word: str) -> _Term:
    qualifier = word[0] if word[0] in _RESULTS else "+"
    rest = word.removeprefix(qualifier)
    for number, character in enumerate(rest):
        if character in ":=/":
            value = rest[number:] if character == "/" else rest[number + 1 :]
            return _Term(qualifier, rest[:number].lower(), value, character == "=")
    return _Term(qualifier, rest.lower(), "", False)


class _Evaluation:
    """For one address. It counts the look-ups over all records that are included."""

    def __init__(self, lookup: Lookup, address: str) -> None:
        self._lookup = lookup
        self._address = ipaddress.ip_address(address)
        self._lookups = 0
        self._void = 0

    async def run(self, domain: str) -> str:
        answer = await self._lookup.ask(domain, "TXT")
        if answer.failed:
            raise SpfFailed("temperror", f"the record of {domain}: {DNS_SILENT}")
        records = [value for value in answer.values if _is_spf(value)]
        if len(records) != 1:
            raise SpfFailed("permerror", f"{domain} has {len(records)} SPF records instead of one")
        terms = [_parse_term(word) for word in records[0].split()[1:]]
        for term in terms:
            if not term.is_modifier and await self._matches(term, domain):
                return _RESULTS[term.qualifier]
        for term in terms:  # RFC 7208 §6.1: once no mechanism matched
            if term.is_modifier and term.name == "redirect":
                self._count()
                return await self.run(_plain(term.value))
        return "neutral"  # RFC 7208 §4.7

    async def _matches(self, term: _Term, domain: str) -> bool:
        match term.name:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._is_in(term)
            case "include":
                self._count()
                return await self.run(_plain(term.value)) == "pass"
            case "a" | "mx":
                self._count()
                return await self._is_named(term, domain)
            case "exists" | "ptr":
                raise SpfFailed("unknown", f'what "{term.name}" gives depends on the message')
        raise SpfFailed("permerror", f'"{term.name}" is no mechanism of SPF')

    def _is_in(self, term: _Term) -> bool:
        try:
            network = ipaddress.ip_network(term.value, strict=False)
        except ValueError as error:
            text = f'"{term.name}:{term.value}" is no address or network'
            raise SpfFailed("permerror", text) from error
        if network.version != int(term.name[-1]):
            raise SpfFailed("permerror", f'"{term.name}:{term.value}" is of the other IP version')
        return self._address in network

    async def _is_named(self, term: _Term, domain: str) -> bool:
        """RFC 7208 §5.3, §5.4, with the lengths of prefixes of §5.6."""
        name, slash, rest = term.value.partition("/")
        lengths = slash + rest  # like "/24", "//64" or "/24//64"
        four, _, six = lengths.partition("//")
        length = four[1:] or "32" if self._address.version == 4 else six or "128"
        name = _plain(name) if name else domain
        hosts = [name]
        if term.name == "mx":
            hosts = [value.split()[1] for value in await self._values(name, "MX")]
            if len(hosts) > MOST_LOOKUPS:  # RFC 7208 §4.6.4
                raise SpfFailed("permerror", f"{name} has more than {MOST_LOOKUPS} MX records")
        kind = "A" if self._address.version == 4 else "AAAA"
        for host in hosts:
            for value in await self._values(host, kind):
                try:
                    network = ipaddress.ip_network(f"{value}/{length}", strict=False)
                except ValueError as error:
                    text = f'"{lengths}" is no length of a prefix'
                    raise SpfFailed("permerror", text) from error
                if self._address in network:
                    return True
        return False

    async def _values(self, name: str, kind: str) -> tuple[str, ...]:
        answer = await self._lookup.ask(name, kind)
        if answer.failed:
            raise SpfFailed("temperror", f"the {kind} records of {name}: {DNS_SILENT}")
        if not answer.values:
            self._void += 1
            if self._void > MOST_VOID:
                text = f"more than {MOST_VOID} look-ups find nothing, so it counts for nobody"
                raise SpfFailed("permerror", text)
        return answer.values

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            text = f"it needs more than {MOST_LOOKUPS} look-ups, so it counts for nobody"
            raise SpfFailed("permerror", text)


def _plain(name: str) -> str:
    if "%" in name:
        raise SpfFailed("unknown", f'what "{name}" gives depends on the message')
    return name.removesuffix(".")

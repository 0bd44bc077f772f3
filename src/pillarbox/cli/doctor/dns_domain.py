"""The DNS records of a domain that lives here: MX, DKIM (RFC 6376 §3.6.1), DMARC (RFC 7489) and SRV (RFC 6186).

SPF has a module of its own. Whether the zone is signed (DNSSEC) is not looked at.
"""

import asyncio
import re

from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.cli.doctor.lookup import DNS_ADVICE, DNS_SILENT, Found, Lookup
from pillarbox.cli.zone import SERVICES, dkim_record, domain_records
from pillarbox.dns.query import Status
from pillarbox.store.dkim_keys import RETIRED_RECORD_S, DkimKey, KeyState

_SPACE = re.compile(r"\s+")


async def check_mx(case: Case, domain: str) -> list[Finding]:
    """Mail for the domain comes to this host."""
    set_it = f"set: {domain}. IN MX 10 {case.host}."
    answer = await case.lookup.ask(domain, "MX")
    if answer.failed:
        return [error("mx", domain, DNS_SILENT, DNS_ADVICE)]
    if answer.status is Status.NO_SUCH_NAME:
        return [error("mx", domain, "the domain does not exist in the DNS", set_it)]
    if not answer.values:
        return [error("mx", domain, "there is no MX record", set_it)]
    ranked = sorted((int(value.split()[0]), value.split()[1]) for value in answer.values)
    hosts = [host for _, host in ranked]
    shown = ", ".join(f"{preference} {host}" for preference, host in ranked)
    if hosts == ["."]:  # RFC 7505 §3
        return [error("mx", domain, "a null MX says that it takes no mail", set_it)]
    if case.host not in hosts:
        return [error("mx", domain, f"its mail goes elsewhere: {shown}", set_it)]
    best = ranked[0][0]
    if all(host != case.host for preference, host in ranked if preference == best):
        advice = "give this host the lowest preference, unless the others pass its mail on to it"
        return [warning("mx", domain, f"other hosts come first: {shown}", advice)]
    return [ok("mx", domain, shown)]


async def check_dkim(case: Case, domain: str) -> list[Finding]:
    """Each key's record is that of the private key."""
    keys = [
        key
        for key in case.domains[domain]
        if key.state is not KeyState.RETIRED or case.now < key.changed + RETIRED_RECORD_S
    ]
    findings = list(await asyncio.gather(*(_check_key(case, key) for key in keys)))
    if not any(key.state is KeyState.ACTIVE for key in keys):
        advice = f"make keys: pillarbox domain rotate-keys {domain}"
        if keys:
            advice = f"once their records are set: pillarbox domain rotate-keys {domain} --activate"
        findings.append(warning("dkim", domain, "no key signs its mail", advice))
    return findings


async def find_fault(lookup: Lookup, key: DkimKey) -> tuple[str, str] | None:
    """What keeps verifiers from using a key, in the place of its record, and what to do; None: they can."""
    record = dkim_record(key)
    advice = f"set the record that this prints: pillarbox dns show {key.domain}"
    answer = await lookup.ask(record.name.removesuffix("."), "TXT")
    if answer.failed:
        return DNS_SILENT, DNS_ADVICE
    if not answer.values:
        return f"the record of this {key.state} key is missing", advice
    if len(answer.values) > 1:  # RFC 6376 §3.6.2.2: what verifiers do then is undefined
        return f"there are {len(answer.values)} TXT records", "leave only one"
    problem = _problem_of(parse_tags(answer.values[0]), parse_tags(record.value))
    return (problem, advice) if problem else None


async def _check_key(case: Case, key: DkimKey) -> Finding:
    name = dkim_record(key).name.removesuffix(".")
    if fault := await find_fault(case.lookup, key):
        return (error if key.state is KeyState.ACTIVE else warning)("dkim", name, *fault)
    answer = await case.lookup.ask(name, "TXT")  # it is not asked again
    if "y" in parse_tags(answer.values[0]).get("t", "").split(":"):
        advice = "remove t=y from the record when your mail arrives well"
        return warning("dkim", name, "the record says that DKIM is only being tested", advice)
    return ok("dkim", name, f"the record is that of the {key.state} {key.algorithm} key")


def _problem_of(tags: dict[str, str], wanted: dict[str, str]) -> str:
    """RFC 6376 §3.6.1: what keeps verifiers from using a record."""
    if tags.get("v", "DKIM1") != "DKIM1":
        return f"the record has v={tags['v']}, not v=DKIM1"
    if not tags.get("p"):
        return "the record has no key (p=): that means it is revoked"
    if tags.get("k", "rsa") != wanted["k"]:
        return f"the record is for {tags.get('k', 'rsa')}, the key is {wanted['k']}"
    if tags["p"] != wanted["p"]:
        return "the record has another public key than that of our private key: signatures fail"
    if "h" in tags and "sha256" not in tags["h"].split(":"):
        return f"the record allows only h={tags['h']}; we sign with sha256"
    if not {"*", "email"} & set(tags.get("s", "*").split(":")):
        return f"the record is not for mail: s={tags['s']}"
    return ""


def parse_tags(text: str) -> dict[str, str]:
    """A tag-list (RFC 6376 §3.2), without any white space in the values.

    Example: "v=DKIM1; p=AB C" -> {"v": "DKIM1", "p": "ABC"}
    """
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): _SPACE.sub("", value) for name, equals, value in pairs if equals}


async def check_dmarc(case: Case, domain: str) -> list[Finding]:
    """RFC 7489 §6.6.3: the record of the domain, else of one above."""
    set_it = f'set: _dmarc.{domain}. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        name = "_dmarc." + ".".join(labels[start:])
        answer = await case.lookup.ask(name, "TXT")
        if answer.failed:
            return [error("dmarc", domain, DNS_SILENT, DNS_ADVICE)]
        records = [value for value in answer.values if value.startswith("v=DMARC1")]
        if len(records) > 1:
            found = f"{len(records)} DMARC records at {name}: none of them counts"
            return [error("dmarc", domain, found, "leave only one")]
        if records:
            return await _check_policy(case, domain, name, parse_tags(records[0]))
    return [warning("dmarc", domain, "there is no DMARC record", set_it)]


async def _check_policy(case: Case, domain: str, name: str, tags: dict[str, str]) -> list[Finding]:
    policy = tags.get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        advice = "use p=none, p=quarantine or p=reject"
        return [error("dmarc", domain, f"{name} has p={policy or '(nothing)'}", advice)]
    own = name.removeprefix("_dmarc.")
    for address in tags.get("rua", "").split(","):
        there = address.partition("!")[0].rpartition("@")[2].lower()
        if not there or there == own or there.endswith(f".{own}") or own.endswith(f".{there}"):
            continue
        # RFC 7489 §7.1: who gets reports on another domain has to agree
        consent = await case.lookup.ask(f"{own}._report._dmarc.{there}", "TXT")
        if not any(value.startswith("v=DMARC1") for value in consent.values):
            advice = f'set: {own}._report._dmarc.{there}. IN TXT "v=DMARC1", or use another rua='
            return [warning("dmarc", domain, f"{there} does not agree to get reports", advice)]
    found = f"p={policy}"
    if policy == "none":
        found += " (reports only; p=quarantine protects more, once they show your mail alone)"
    return [ok("dmarc", domain, found)]


async def check_srv(case: Case, domain: str) -> list[Finding]:
    """Mail programs find what this server offers (RFC 6186 §3, RFC 8314 §5.1), and nothing else."""
    wanted = {
        record.name.removesuffix("."): record.value.removesuffix(".")
        for record in domain_records(case.config, domain, (), int(case.now))
        if record.type == "SRV"
    }
    names = [f"_{service}._tcp.{domain}" for service in SERVICES]
    answers = await asyncio.gather(*(case.lookup.ask(name, "SRV") for name in names))
    findings = []
    for name, answer in zip(names, answers, strict=True):
        if name in wanted:
            findings.append(_check_offered(name, wanted[name], answer))
        elif any(value.split()[3] == case.host for value in answer.values):
            advice = f"remove it, or set: {name}. IN SRV 0 0 0 ."
            found = f"{answer.values[0]} is named, but that is not offered here"
            findings.append(error("srv", name, found, advice))
    return findings


def _check_offered(name: str, wanted: str, answer: Found) -> Finding:
    advice = f"set: {name}. IN SRV {wanted}."
    if answer.failed:
        return warning("srv", name, DNS_SILENT, DNS_ADVICE)
    if not answer.values:
        return warning("srv", name, "there is no record: mail programs have to guess", advice)
    place = wanted.split()[2:]
    if all(value.split()[2:] != place for value in answer.values):
        shown = ", ".join(answer.values)
        return error("srv", name, f"it names something else: {shown}", advice)
    return ok("srv", name, ", ".join(answer.values))

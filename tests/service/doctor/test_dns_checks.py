"""`pillarbox doctor`: each check of the DNS against a zone that is right, and then wrong in just one way."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from small_dns import SmallDns

from pillarbox.cli.doctor.block_lists import check_block_lists, question
from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.dns_domain import (
    check_dkim,
    check_dmarc,
    check_mx,
    check_srv,
    parse_tags,
)
from pillarbox.cli.doctor.dns_host import (
    check_addresses,
    check_pointers,
    check_tlsa,
    fingerprint,
)
from pillarbox.cli.doctor.dns_spf import check_spf
from pillarbox.cli.doctor.finding import Finding, Level
from pillarbox.cli.doctor.lookup import make_lookup
from pillarbox.config.schema import Config, Dns, Doctor, Listen
from pillarbox.dkim.keys import make_ed25519_key, record_text
from pillarbox.store.dkim_keys import DkimKey, KeyState

NOW = 1_800_000_000
KEY = DkimKey(
    "example.org", "s1", "ed25519", record_text(make_ed25519_key()), KeyState.ACTIVE, NOW, NOW
)
OTHER_RECORD = record_text(make_ed25519_key())
ADDRESS, ADDRESS6 = "9.8.7.6", "2a00::25"
POINTER = "6.7.8.9.in-addr.arpa"
POINTER6 = "5.2." + "0." * 28 + "a.2.ip6.arpa"

Check = Callable[..., Coroutine[Any, Any, list[Finding]]]


@pytest.fixture
def net() -> Iterator[SmallDns]:
    """With all that example.org needs."""
    server = SmallDns()
    server.zone |= {
        ("example.org", "MX"): ["10 mail.example.org."],
        ("example.org", "TXT"): ['"v=spf1 mx -all"', '"another text"'],
        ("mail.example.org", "TXT"): ['"v=spf1 a -all"'],
        ("mail.example.org", "A"): [ADDRESS],
        ("mail.example.org", "AAAA"): [ADDRESS6],
        (POINTER, "PTR"): ["Mail.example.org."],
        (POINTER6, "PTR"): ["mail.example.org."],
        ("s1._domainkey.example.org", "TXT"): [f'"{KEY.record}"'],
        ("_dmarc.example.org", "TXT"): ['"v=DMARC1; p=reject"'],
        ("_imaps._tcp.example.org", "SRV"): ["0 1 993 mail.example.org."],
        ("_submissions._tcp.example.org", "SRV"): ["0 1 465 mail.example.org."],
    }
    yield server
    server.close()


def look(net: SmallDns, check: Check, *more: Any, **changes: Any) -> list[Finding]:
    """What a check finds; `changes` are attributes of the case or of its configuration."""

    async def run() -> list[Finding]:
        config = Config(
            "mail.example.org",
            "/nowhere",
            listen=Listen(imaps=["0.0.0.0:993"], submissions=["0.0.0.0:465"]),
            dns=Dns([net.address]),
            doctor=Doctor(["list.example"]),
        )
        config.outbound.smarthost = changes.get("smarthost", "")
        keys = changes.get("keys", [KEY])
        case = Case(config, {"example.org": keys}, make_lookup(config), now=NOW)
        case.chains = changes.get("chains", [])
        return await check(case, *more)

    return asyncio.run(run())


def only(findings: list[Finding]) -> Finding:
    """The one that is not fine."""
    [found] = [each for each in findings if each.level is not Level.OK]
    assert found.advice
    assert "\n" not in found.advice
    return found


def txt(net: SmallDns, name: str, *texts: str) -> None:
    net.zone[name, "TXT"] = [f'"{text}"' for text in texts]


@pytest.mark.parametrize("check", [check_mx, check_spf, check_dkim, check_dmarc, check_srv])
def test_a_good_zone_has_no_faults(net: SmallDns, check: Check) -> None:
    findings = look(net, check, "example.org")
    assert findings
    assert {each.level for each in findings} == {Level.OK}


@pytest.mark.parametrize("check", [check_addresses, check_pointers])
def test_a_good_host_has_no_faults(net: SmallDns, check: Check) -> None:
    findings = look(net, check)
    assert findings
    assert {each.level for each in findings} == {Level.OK}


# MX


@pytest.mark.parametrize(
    ("records", "level", "found"),
    [
        ([], "error", "there is no MX record"),
        (["0 ."], "error", "null MX"),
        (["10 other.example."], "error", "its mail goes elsewhere: 10 other.example"),
        (["10 mail.example.org.", "5 other.example."], "warning", "other hosts come first"),
        ("SERVFAIL", "error", "the DNS gives no answer"),
    ],
)
def test_mx_leads_to_this_host(net: SmallDns, records: Any, level: str, found: str) -> None:
    net.zone["example.org", "MX"] = records
    finding = only(look(net, check_mx, "example.org"))
    assert finding.level == level
    assert found in finding.found


def test_a_domain_that_does_not_exist_is_told(net: SmallDns) -> None:
    net.zone.clear()
    assert "does not exist" in only(look(net, check_mx, "example.org")).found


# SPF (RFC 7208)


@pytest.mark.parametrize(
    ("records", "level", "found"),
    [
        ([], "warning", "no SPF record"),
        (["v=spf1 mx -all", "v=spf1 a -all"], "error", "2 SPF records"),  # §4.5
        (["v=spf1 ip4:9.8.7.6 -all"], "error", f"gives fail for {ADDRESS6}"),
        (["v=spf1 ip4:1.2.3.4 ~all"], "error", "gives softfail for 9.8.7.6"),
        (["v=spf1 ip4:1.2.3.4"], "error", "gives neutral"),  # §4.7
        (["v=spf1 +all"], "warning", "lets everybody"),
        (["v=spf1 ip4:1.2.3.999 -all"], "error", "no address or network"),
        (["v=spf1 ip4:2a00::1 -all"], "error", "other IP version"),
        (["v=spf1 mxx -all"], "error", "no mechanism"),
        (["v=spf1 include:nothing.example mx -all"], "error", "has 0 SPF records"),  # §5.2
        (["v=spf1 include:example.org -all"], "error", "more than 10 look-ups"),  # §4.6.4
        (["v=spf1 exists:%{i}.example -all"], "warning", "depends on the message"),
        (["v=spf1 a:x.example a:y.example a:z.example mx -all"], "error", "find nothing"),  # §4.6.4
        (["v=spf1 mx/abc -all"], "error", "no length of a prefix"),
    ],
)
def test_spf_lets_this_host_send(net: SmallDns, records: Any, level: str, found: str) -> None:
    txt(net, "example.org", *records)
    finding = only(look(net, check_spf, "example.org"))
    assert finding.level == level
    assert found in finding.found


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 ip4:9.8.0.0/16 ip6:2a00::/64 -all",
        "v=spf1 a:mail.example.org -all",
        "v=spf1 a:near.example/24//64 -all",  # §5.6
        "v=spf1 redirect=other.example",  # §6.1
        "v=spf1 include:other.example ?all",
        "v=SPF1 MX -ALL",
    ],
)
def test_spf_is_worked_out_for_each_address(net: SmallDns, record: str) -> None:
    txt(net, "example.org", record)
    txt(net, "other.example", "v=spf1 ip4:9.8.7.6 ip6:2a00::25 -all")
    net.zone["near.example", "A"] = ["9.8.7.1"]
    net.zone["near.example", "AAAA"] = ["2a00::1"]
    assert {each.level for each in look(net, check_spf, "example.org")} == {Level.OK}


def test_the_host_itself_has_spf_for_its_bounces(net: SmallDns) -> None:
    del net.zone["mail.example.org", "TXT"]
    assert only(look(net, check_spf, "example.org")).subject == "mail.example.org"  # §2.4


def test_spf_names_the_provider_of_a_smarthost(net: SmallDns) -> None:
    finding = only(look(net, check_spf, "example.org", smarthost="relay.example:465"))
    assert "includes no provider" in finding.found
    txt(net, "example.org", "v=spf1 include:other.example -all")
    txt(net, "other.example", "v=spf1 ip4:1.2.3.4 -all")
    [finding] = look(net, check_spf, "example.org", smarthost="relay.example:465")
    assert finding.level is Level.OK


# DKIM (RFC 6376 §3.6.1)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([], "is missing"),
        ([KEY.record, OTHER_RECORD], "2 TXT records"),
        ([OTHER_RECORD], "another public key"),
        (["v=DKIM1; k=ed25519; p="], "revoked"),
        ([KEY.record.replace("ed25519", "rsa")], "is for rsa, the key is ed25519"),
        ([KEY.record.replace("DKIM1", "DKIM2")], "v=DKIM2"),
        ([KEY.record + "; h=sha1"], "h=sha1"),
        ([KEY.record + "; s=other"], "not for mail"),
    ],
)
def test_the_dkim_record_is_that_of_the_private_key(
    net: SmallDns, records: list[str], found: str
) -> None:
    txt(net, "s1._domainkey.example.org", *records)
    finding = only(look(net, check_dkim, "example.org"))
    assert finding.level is Level.ERROR
    assert found in finding.found


def test_dkim_that_is_only_tested_is_a_warning(net: SmallDns) -> None:
    txt(net, "s1._domainkey.example.org", KEY.record + "; t=y")
    assert only(look(net, check_dkim, "example.org")).level is Level.WARNING


def test_white_space_in_a_dkim_record_does_not_count(net: SmallDns) -> None:
    spaced = KEY.record.replace("p=", "p = ", 1).replace("; ", " ;\t")
    txt(net, "s1._domainkey.example.org", spaced)
    assert {each.level for each in look(net, check_dkim, "example.org")} == {Level.OK}
    assert parse_tags("v=DKIM1; p=AB C") == {"v": "DKIM1", "p": "ABC"}


def test_a_domain_without_keys_that_sign_is_a_warning(net: SmallDns) -> None:
    assert "rotate-keys" in only(look(net, check_dkim, "example.org", keys=[])).advice
    new = DkimKey("example.org", "s1", "ed25519", KEY.record, KeyState.NEW, NOW, NOW)
    assert "--activate" in only(look(net, check_dkim, "example.org", keys=[new])).advice


# DMARC (RFC 7489)


@pytest.mark.parametrize(
    ("records", "level", "found"),
    [
        ([], "warning", "no DMARC record"),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], "error", "2 DMARC records"),  # §6.6.3
        (["v=DMARC1; p=perhaps"], "error", "p=perhaps"),
        (["v=DMARC1; rua=mailto:a@example.org"], "error", "(nothing)"),
        (["v=DMARC1; p=none; rua=mailto:a@reports.example"], "warning", "does not agree"),  # §7.1
    ],
)
def test_dmarc_has_one_good_record(net: SmallDns, records: Any, level: str, found: str) -> None:
    txt(net, "_dmarc.example.org", *records)
    finding = only(look(net, check_dmarc, "example.org"))
    assert finding.level == level
    assert found in finding.found


def test_who_gets_dmarc_reports_may_have_agreed(net: SmallDns) -> None:
    txt(net, "_dmarc.example.org", "v=DMARC1; p=none; rua=mailto:a@reports.example!10m")
    txt(net, "example.org._report._dmarc.reports.example", "v=DMARC1")
    assert look(net, check_dmarc, "example.org")[0].level is Level.OK


def test_a_domain_below_has_the_dmarc_record_above(net: SmallDns) -> None:
    assert look(net, check_dmarc, "below.example.org")[0].level is Level.OK


# SRV (RFC 6186, RFC 8314)


def test_srv_is_missing(net: SmallDns) -> None:
    del net.zone["_imaps._tcp.example.org", "SRV"]
    finding = only(look(net, check_srv, "example.org"))
    assert finding.level is Level.WARNING
    assert finding.advice == "set: _imaps._tcp.example.org. IN SRV 0 1 993 mail.example.org."


@pytest.mark.parametrize("record", ["0 1 994 mail.example.org.", "0 1 993 old.example.", "0 0 0 ."])
def test_srv_names_another_place(net: SmallDns, record: str) -> None:
    net.zone["_imaps._tcp.example.org", "SRV"] = [record]
    assert only(look(net, check_srv, "example.org")).level is Level.ERROR


def test_srv_names_what_is_not_offered(net: SmallDns) -> None:
    net.zone["_pop3s._tcp.example.org", "SRV"] = ["0 1 995 mail.example.org."]
    assert "not offered here" in only(look(net, check_srv, "example.org")).found


# The host


def test_the_hostname_has_no_address(net: SmallDns) -> None:
    del net.zone["mail.example.org", "A"], net.zone["mail.example.org", "AAAA"]
    assert "no address" in only(look(net, check_addresses)).found


def test_the_hostname_is_a_cname(net: SmallDns) -> None:
    net.zone["mail.example.org", "CNAME"] = ["host.example."]
    net.zone["host.example", "A"] = [ADDRESS]
    assert "CNAME of host.example" in only(look(net, check_addresses)).found


def test_the_hostname_has_an_address_that_nobody_reaches(net: SmallDns) -> None:
    net.zone["mail.example.org", "A"] = ["10.0.0.1"]
    assert "10.0.0.1 cannot be reached" in only(look(net, check_addresses)).found


@pytest.mark.parametrize(
    ("records", "level", "found"),
    [
        ([], "error", "no name (PTR)"),
        (["other.example."], "error", "which is not this address"),
        (["same.example."], "warning", "not our hostname"),
        ("SERVFAIL", "error", "no answer"),
    ],
)
def test_each_address_names_the_host(net: SmallDns, records: Any, level: str, found: str) -> None:
    net.zone[POINTER6, "PTR"] = records
    net.zone["same.example", "AAAA"] = [ADDRESS6]
    finding = only(look(net, check_pointers))
    assert (finding.subject, finding.level) == (ADDRESS6, level)
    assert found in finding.found


# TLSA


@pytest.fixture(scope="module")
def chain() -> list[x509.Certificate]:
    ca = trustme.CA()
    issued = ca.issue_cert("mail.example.org")
    pems = [issued.cert_chain_pems[0].bytes(), ca.cert_pem.bytes()]
    return [x509.load_pem_x509_certificate(pem) for pem in pems]


def tlsa(net: SmallDns, *records: str) -> None:
    net.zone["_25._tcp.mail.example.org", "TLSA"] = list(records)


def test_no_tlsa_is_no_fault(net: SmallDns, chain: list[x509.Certificate]) -> None:
    assert look(net, check_tlsa, chains=[chain]) == []


def test_tlsa_fits_the_certificate_or_who_signed_it(
    net: SmallDns, chain: list[x509.Certificate]
) -> None:
    for record in (f"3 1 1 {fingerprint(chain[0])}", f"2 1 1 {fingerprint(chain[1])}"):
        tlsa(net, record, "3 1 1 " + "00" * 32)
        assert look(net, check_tlsa, chains=[chain])[0].level is Level.OK


def test_tlsa_of_another_certificate_is_an_error(
    net: SmallDns, chain: list[x509.Certificate]
) -> None:
    tlsa(net, f"3 1 1 {fingerprint(chain[1])}")
    finding = only(look(net, check_tlsa, chains=[chain]))
    assert finding.level is Level.ERROR
    assert fingerprint(chain[0]) in finding.advice
    tlsa(net, f"1 1 1 {fingerprint(chain[0])}")
    assert only(look(net, check_tlsa, chains=[chain])).level is Level.WARNING


def test_tlsa_that_cannot_be_looked_up_is_an_error(net: SmallDns) -> None:
    net.zone["_25._tcp.mail.example.org", "TLSA"] = "SERVFAIL"
    assert only(look(net, check_tlsa)).level is Level.ERROR


# Block lists


def lists(net: SmallDns, *addresses: str, answer: str = "127.0.0.2") -> None:
    for address in addresses:
        net.zone[question(address, "list.example"), "A"] = [answer]


def test_an_address_that_is_not_listed_is_fine(net: SmallDns) -> None:
    lists(net, "127.0.0.2")
    assert look(net, check_block_lists)[0].level is Level.OK


def test_a_listed_address_is_an_error(net: SmallDns) -> None:
    lists(net, "127.0.0.2", ADDRESS6)
    finding = only(look(net, check_block_lists))
    assert finding.level is Level.ERROR
    assert f"{ADDRESS6} (127.0.0.2)" in finding.found


@pytest.mark.parametrize("code", [1, 252, 254, 255])
def test_127_255_255_x_means_that_the_list_is_unusable(net: SmallDns, code: int) -> None:
    lists(net, "127.0.0.2", ADDRESS, answer=f"127.255.255.{code}")
    finding = only(look(net, check_block_lists))
    assert finding.level is Level.WARNING
    assert "the list is unusable" in finding.found


@pytest.mark.parametrize(
    ("listed", "answer", "why"),
    [
        ([], "", "lists nothing"),
        (["127.0.0.1", "127.0.0.2", ADDRESS], "127.0.0.2", "lists everything"),
        (["127.0.0.2", ADDRESS], "203.0.113.7", "no answer of a list"),  # a parked domain
    ],
)
def test_a_dead_list_is_not_believed(
    net: SmallDns, listed: list[str], answer: str, why: str
) -> None:
    lists(net, *listed, answer=answer)
    finding = only(look(net, check_block_lists))
    assert finding.level is Level.WARNING
    assert why in finding.found


def test_addresses_are_asked_backwards() -> None:
    assert question("192.0.2.1", "list.example") == "1.2.0.192.list.example"
    assert question(ADDRESS6, "z").endswith(".0.a.2.z")


def test_a_silent_dns_does_not_keep_the_command(
    net: SmallDns, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pillarbox.cli.doctor.lookup.ANSWER_S", 0.2)
    net.zone["example.org", "MX"] = "silence"
    assert "no answer" in only(look(net, check_mx, "example.org")).found

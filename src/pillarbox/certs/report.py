"""What `pillarbox tls status` says of each certificate, by its files alone: no server needs to run. Makes nothing."""

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from pillarbox.certs.names import ByName
from pillarbox.certs.pair import Pair, Paths, read_pair
from pillarbox.certs.present import days_left, problems_of, words
from pillarbox.certs.renewal import acme_paths, read_failures
from pillarbox.certs.trust import End, end_of
from pillarbox.config.regular_file import read_regular
from pillarbox.config.schema import Config
from pillarbox.core.words import counted

SOON = 6
"""So great a part of the lifetime before its end (a sixth), but not more than SOON_DAYS, somebody should have renewed
it."""
SOON_DAYS = 14


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate."""

    paths: Paths
    pair: Pair | None
    """None: it cannot be used."""
    days: int | None
    """Until it expires; below 0 since it did."""
    is_first: bool
    """Clients that say another name, or none, get it."""
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    """What is a fault, unless it is meant to be so."""


def report(config: Config, all_paths: list[Paths], now: datetime.datetime) -> list[Entry]:
    """An entry for each pair of files, in their order. Blocks."""
    found: list[tuple[Paths, Pair | None, list[str]]] = []
    for paths in all_paths:
        try:
            read = read_pair(paths)
            found.append((paths, read, _problems(read, now)))
        except (OSError, ValueError) as error:
            found.append((paths, None, [words(error, config.data_path)]))
    good = [pair for _, pair, _ in found if pair is not None]
    by_name = ByName((pair.names, pair.paths) for pair in good)
    entries = []
    for number, (paths, pair, problems) in enumerate(found):
        if number == 0 and pair is not None and (missing := missing_name(config.hostname, good)):
            problems.append(missing)
        if (
            number
            and pair is not None
            and all(by_name.find(name.replace("*", "a", 1)) != paths for name in pair.names)
        ):
            problems.append("no client gets it: those before it have its names")
        if number == 0 and config.tls.acme:
            problems += _acme_problems(config, paths)
        days = None if pair is None else days_left(pair, now)
        notes = () if pair is None or problems else tuple(_notes(config, pair))
        entries.append(Entry(paths, pair, days, number == 0, tuple(problems), notes))
    return entries


def missing_name(hostname: str, pairs: Iterable[Pair]) -> str:
    """That no certificate has the host name; "" where one has."""
    has_it = ByName((pair.names, pair) for pair in pairs).find(hostname) is not None
    return "" if has_it else f"no certificate has the hostname {hostname}"


def _acme_problems(config: Config, paths: Paths) -> list[str]:
    failures = read_failures(config)
    if failures.count:
        when = datetime.datetime.fromtimestamp(failures.last, datetime.UTC)
        return [
            f"the last order by ACME failed on {when:%Y-%m-%d %H:%M} UTC ({failures.count} in a row): {failures.reason}"
        ]
    return [] if paths == acme_paths(config) else ["no certificate by ACME has come yet"]


def listeners(config: Config) -> list[str]:
    """All of them, like "imaps 0.0.0.0:993"."""
    listen = config.listen
    return [
        f"{service} {address}"
        for service in listen.__struct_fields__
        for address in getattr(listen, service)
    ]


def listeners_with_tls(config: Config) -> list[str]:
    """Where certificates are shown: all but metrics, which is plain HTTP, have TLS from the start or on request."""
    return [each for each in listeners(config) if not each.startswith("metrics ")]


def _problems(pair: Pair, now: datetime.datetime) -> list[str]:
    problems = problems_of(pair, now)
    soon = min((pair.end - pair.start) / SOON, datetime.timedelta(days=SOON_DAYS))
    if pair.start <= now < pair.end < now + soon:
        problems.append(f"it expires in {counted(days_left(pair, now), 'day')}")
    if where := _missing_issuer(pair):
        problems.append(
            f"the certificate of {pair.issuer}, which signed it, is missing in the file: many clients will not trust"
            f" it ({where} has it)"
        )
    return problems


def _notes(config: Config, pair: Pair) -> Iterator[str]:
    """Where this system does not trust its chain, which is as it should be for the CA of a house alone."""
    match end_of(pair.paths, config.data_path / "tls" / "ca.pem"):
        case End.ITSELF:
            yield "it signed itself: only clients that were given it trust it"
        case End.ROOT:
            yield "its chain ends at a root that this system does not know: only clients that were given it trust it"
        case End.ISSUER:
            yield (
                f"its chain ends below {pair.chain_issuer}, which this system does not know: if that is a public CA,"
                " its certificate is missing in the file, and many clients will not trust it; if it is one of your"
                " own, only clients that were given it do"
            )


def _missing_issuer(pair: Pair) -> str:
    """Where the issuer's certificate is to be had, if the file has only the host's; '' where nothing is amiss.

    RFC 5280 §4.2.2.1: who signs by an intermediate certificate says where to find it.
    """
    chain = x509.load_pem_x509_certificates(read_regular(pair.paths[0]))
    if len(chain) > 1 or pair.is_self_signed:
        return ""
    try:
        access = chain[0].extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ""
    for each in access:
        if each.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
            return str(each.access_location.value)
    return ""

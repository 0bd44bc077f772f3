"""Whether mail gets out: a connection to another host's port 25, or to the smarthost. Only when told to."""

import asyncio
import random
import ssl

from pillarbox.app.outbound import make_resolver, make_router, own_host
from pillarbox.cli.doctor.case import WAIT_S, Case, words_of
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.core.address import canonical_domain
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.dns.mx import NoRoute, find_route
from pillarbox.outbound.route import IMPLICIT_TLS_PORT, SMARTHOST, Rule

_MOST_ADDRESSES = 4


async def check_outbound(case: Case, target: str) -> list[Finding]:
    """`target` is a domain, whose MX hosts are tried (a host is its own), or SMARTHOST."""
    outbound = case.config.outbound
    if target == SMARTHOST:
        if not outbound.smarthost:
            advice = "name a domain that takes mail: --outbound example.com"
            return [warning("outbound", target, "there is no outbound.smarthost", advice)]
        host, port = parse_endpoint(outbound.smarthost)
        advice = "look whether it runs, and at its name and port in outbound.smarthost"
        return [await _check_hosts(f"{host}:{port}", [host], port, advice)]
    try:
        rule = _rule(case, target)
    except Refused as refused:  # a password file
        return [error("outbound", target, refused.text, "let the server's user read it")]
    if rule is not None and rule.name:
        subject = f"{target} by way of {rule.name}:{rule.port}"
        advice = "look whether it runs, and at its name and port in outbound.routes"
        return [await _check_hosts(subject, [rule.name], rule.port, advice)]
    resolver = make_resolver(case.config)
    route = await resolver.run(find_route(target, own_host(case.config), random.random))
    if isinstance(route, NoRoute):
        advice = "name a domain that takes mail"
        return [error("outbound", target, route.text, advice)]
    addresses = [address for host in route.hosts for address in host.addresses]
    port = outbound.mx_port
    advice = f"ask your provider to open port {port}, or send by a smarthost (outbound.smarthost)"
    return [await _check_hosts(target, addresses[:_MOST_ADDRESSES], port, advice)]


def _rule(case: Case, target: str) -> Rule | None:
    """The configured route of a domain. The smarthost's is none: who names a domain asks for port 25."""
    if not case.config.outbound.routes:
        return None
    try:
        key, rule = make_router(case.config).rule(canonical_domain(target))
    except ValueError:
        return None  # what is wrong with the name, the search for a route tells best
    return None if key == SMARTHOST else rule


async def _check_hosts(subject: str, hosts: list[str], port: int, advice: str) -> Finding:
    """`advice`: for when none is reached."""
    found = await asyncio.gather(*(_greeting(host, port) for host in hosts))
    good = [(host, text) for host, (text, why) in zip(hosts, found, strict=True) if not why]
    if not good:
        reasons = ", ".join(f"{host}: {why}" for host, (_, why) in zip(hosts, found, strict=True))
        return error("outbound", subject, f"port {port} is not reached ({reasons})", advice)
    host, text = good[0]
    if not text.startswith("220"):
        advice = "read what it says: it may not like our address"
        return warning("outbound", subject, f"{host} port {port} says {text}", advice)
    return ok("outbound", subject, f"{host} port {port} says {text}")


async def _greeting(host: str, port: int) -> tuple[str, str]:
    """(first line, why there is none)"""
    context = ssl.create_default_context() if port == IMPLICIT_TLS_PORT else None
    try:
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        return "", f"no connection within {WAIT_S:g} s"
    except ssl.SSLCertVerificationError as failure:
        return "", f"its certificate is not trusted: {failure.verify_message}"
    except OSError as failure:
        return "", words_of(failure)
    try:
        async with asyncio.timeout(WAIT_S):
            line = (await reader.readline()).decode("latin-1")
        return "".join(filter(str.isprintable, line))[:80], "" if line else "it hung up"
    except TimeoutError:
        return "", f"no greeting within {WAIT_S:g} s"
    except (OSError, ValueError) as failure:
        return "", str(failure)
    finally:
        writer.transport.abort()

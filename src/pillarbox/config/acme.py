"""What may be wrong in [tls] with the certificate by ACME, in one line each."""

import shlex
from collections.abc import Iterator

from pillarbox.config.schema import Tls
from pillarbox.config.urls import why_unsafe
from pillarbox.core.address import canonical_host
from pillarbox.core.duration import parse_duration
from pillarbox.core.endpoint import parse_endpoint

LONGEST_WAIT_S = 600


def acme_problems(tls: Tls) -> Iterator[str]:
    if tls.certificate:
        yield "tls: acme gets the first certificate; put yours into certificates, or leave acme out"
    if why := why_unsafe(tls.acme_directory):
        yield f"tls.acme_directory: {why}"
    if tls.acme_contact and ("@" not in tls.acme_contact or ":" in tls.acme_contact):
        yield f'tls.acme_contact: "{tls.acme_contact}" is not a mail address'
    for name in tls.acme_names:
        try:
            canonical_host(name.removeprefix("*."))
        except ValueError:
            yield f'tls.acme_names: "{name}" is not a host name'
        if name.startswith("*.") and tls.acme_challenge != "dns-01":
            # CAs give wildcards (RFC 8555 §7.1.3) to nobody else.
            yield f'tls.acme_names: "{name}" needs acme_challenge = "dns-01"'
    for address in tls.acme_listen:
        try:
            parse_endpoint(address)
        except ValueError as error:
            yield f"tls.acme_listen: {error}"
    try:
        if parse_duration(tls.acme_dns_wait) > LONGEST_WAIT_S:
            yield f"tls.acme_dns_wait: must be {LONGEST_WAIT_S}s or less"
    except ValueError as error:
        yield f"tls.acme_dns_wait: {error}"
    try:
        words = shlex.split(tls.acme_hook)
    except ValueError as error:
        yield f"tls.acme_hook: {error}"
        return
    if tls.acme_challenge == "dns-01" and not words:
        yield "tls.acme_hook: dns-01 needs a command that sets a TXT record"

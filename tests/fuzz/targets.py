"""What is fuzzed: each parser of what strangers, users or administrators write, as a function of octets.

A target returns for whatever it is given, or raises what its row allows; one that yields does so after each step, like
one command, and its longest step is what counts. Engines are driven by the services of the
property tests, with the limits that a server has.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from pillarbox.config.load import load_config
from pillarbox.core.address import canonical_domain, canonical_host
from pillarbox.core.duration import parse_duration
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.engine import Heard, Wait
from pillarbox.core.errors import Refused
from pillarbox.core.networks import parse_networks
from pillarbox.core.shown import MOST_LINES
from pillarbox.dkim.keys import make_ed25519_key, parse_key
from pillarbox.dkim.sign import Signer, author_domain, sign
from pillarbox.dns.mx import OwnHost, find_route
from pillarbox.imap.limits import Limits as ImapLimits
from pillarbox.imap.server import Server as ImapServer
from pillarbox.imap.shown import answers as imap_answers
from pillarbox.imap.utf7 import decode_utf7
from pillarbox.mime.address_list import parse_address_list
from pillarbox.mime.convert import Transport, convert
from pillarbox.mime.date import parse_date
from pillarbox.mime.header import decode_header
from pillarbox.mime.message import parse_message
from pillarbox.mime.parameters import parse_content_type, parse_disposition
from pillarbox.mime.searched import index_text
from pillarbox.net.http import BadRequest, parse_request
from pillarbox.net.proxy import parse_proxy_header
from pillarbox.pop3.options import ServerOptions as Pop3Options
from pillarbox.pop3.server import Pop3Server
from pillarbox.pop3.shown import answers as pop3_answers
from pillarbox.sasl.exchange import Challenge, ChannelBinding, Surroundings, decode_base64
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.smtp.client_reply import BadReply, ReplyReader
from pillarbox.smtp.options import ServerOptions as SmtpOptions
from pillarbox.smtp.server import SmtpServer
from pillarbox.smtp.shown import answers as smtp_answers
from pillarbox.store.directory import canonical_address
from pillarbox.store.pages import INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE, Pages

LONGEST_LINE = 1 << 19
"""With its literals."""

PROPERTIES = Path(__file__).parents[1] / "property"


@dataclass(slots=True, frozen=True)
class Target:
    """`largest`: octets that the server hands over at once, at most. `s_a_megabyte`: how long a step may take."""

    run: Callable[[bytes], Iterator[None] | None]
    largest: int
    allowed: tuple[type[Exception], ...] = ()
    s_a_megabyte: float = 0.1


@cache
def _properties(name: str) -> ModuleType:
    """The service of an engine is in its property tests."""
    spec = importlib.util.spec_from_file_location(f"fuzzed_{name}", PROPERTIES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _look(line: Heard) -> None:
    """Somebody looks on."""
    assert len(line.text) < LONGEST_LINE


def smtp(data: bytes) -> Iterator[None]:
    options = SmtpOptions("host.example", 1 << 20, ("PLAIN", "LOGIN"), cleartext_auth=True)
    engine = SmtpServer(options, xclient=True)
    answer = _properties("test_smtp").answer
    engine.observe(_look)
    engine.receive(data)
    while not isinstance(event := engine.next_event(), Wait):
        answer(engine, event)
        engine.data_to_send()
        yield


def smtp_replies(data: bytes) -> None:
    reader = ReplyReader()
    reader.feed(data)
    while (reply := reader.next_reply()) is not None and not isinstance(reply, BadReply):
        pass


def imap(data: bytes) -> Iterator[None]:
    engine = ImapServer(ImapLimits(), tls=True)
    respond = _properties("test_imap").respond
    engine.observe(_look)
    engine.receive(b"a LOGIN x y\r\nb SELECT x\r\n" + data)
    while not isinstance(event := engine.next_event(), Wait):
        respond(engine, event)
        engine.data_to_send()
        yield


def pop3(data: bytes) -> Iterator[None]:
    engine = Pop3Server(Pop3Options(cleartext_login=True))
    answer = _properties("test_pop3").answer
    engine.observe(_look)
    engine.receive(data)
    while not isinstance(event := engine.next_event(), Wait):
        answer(engine, event)
        engine.data_to_send()
        yield


def answers(data: bytes) -> Iterator[None]:
    """What a server says, for who looks on."""
    for begin in (imap_answers, pop3_answers, smtp_answers):
        listener = begin(is_lost=False)
        listener.heard(Heard(b"RETR 1", hidden_tag=data[:2]))
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            assert len(listener.feed(half)) <= MOST_LINES + 2
            yield


def mailbox_names(data: bytes) -> None:
    decode_utf7(data)


def mime(data: bytes) -> None:
    parse_message(data)


def mime_texts(data: bytes) -> None:
    index_text(data)


def mime_converted(data: bytes) -> Iterator[None]:
    for transport in Transport:
        convert(data, transport)
        yield


def headers(data: bytes) -> Iterator[None]:
    for parse in (decode_header, parse_date, parse_content_type, parse_disposition):
        parse(data)
        yield


def addresses(data: bytes) -> None:
    parse_address_list(data)


def names(data: bytes) -> Iterator[None]:
    """Addresses and hosts as administrators and DNS write them."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (
        canonical_domain,
        canonical_host,
        canonical_address,
        parse_endpoint,
        parse_duration,
    ):
        try:
            parse(text)
        except (ValueError, Refused):
            yield
    with suppress(ValueError):
        parse_networks([text])


def routes(data: bytes) -> None:
    """Where mail goes: literals are read, and a domain's first question is made."""
    domain = data.decode("utf-8", "surrogateescape")
    asking = find_route(domain, OwnHost(frozenset({"mx.example.org"})), lambda: 0.5)
    next(asking)


def sasl(data: bytes) -> None:
    """Each line is a message of the client."""
    first, *others = data.split(b"\n")
    for row in MECHANISMS.values():
        machine = row.begin(Surroundings("nonce", ChannelBinding("tls-exporter", b"x" * 32)))
        step = machine.start(first)
        for message in others:
            if not isinstance(step, Challenge):
                break
            step = machine.respond(message)
    decode_base64(data)


MOST_DOTS = 250
"""In a line of a configuration. `tomllib` takes time with the square of the parts of a dotted name: 1.7 s for 64 KiB of
`a.a.a`. Only the administrator writes that file, and it is read before there is an event loop, so this is no fault."""


def configuration(data: bytes) -> None:
    if max(line.count(b".") for line in data.split(b"\n")) > MOST_DOTS:
        return
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        load_config(Path(file.name))


def proxy(data: bytes) -> None:
    parse_proxy_header(data)


def http(data: bytes) -> None:
    parse_request(data)


@cache
def _signer() -> Signer:
    return Signer("example.org", "fuzz", make_ed25519_key())


def dkim(data: bytes) -> None:
    author_domain(data)
    sign(data, [_signer()], 1_700_000_000)


def dkim_keys(data: bytes) -> None:
    parse_key(data)


def database_pages(data: bytes) -> None:
    """A damaged account file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with Pages(Path(file.name)) as pages:
            pages.reachable([2, 3])
            for cell in pages.cells(INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE):
                pages.values(cell)


TARGETS = {
    "smtp": Target(smtp, 1 << 18),
    "smtp-replies": Target(smtp_replies, 1 << 16),
    "imap": Target(imap, 1 << 18),
    "pop3": Target(pop3, 1 << 18),
    "answers": Target(answers, 1 << 20),
    "mailbox-names": Target(mailbox_names, 1 << 14, (ValueError,)),
    "mime": Target(mime, 1 << 20),
    "mime-texts": Target(mime_texts, 1 << 20, s_a_megabyte=0.5),  # marks, one by one
    "mime-converted": Target(
        mime_converted, 1 << 20, s_a_megabyte=0.3
    ),  # each octet is written anew,
    "headers": Target(headers, 1 << 18, s_a_megabyte=0.5),  # by tokens; linear,
    "addresses": Target(addresses, 1 << 18),
    "names": Target(names, 1 << 12),
    "routes": Target(routes, 1 << 12, (StopIteration, ValueError)),
    "sasl": Target(sasl, 1 << 14),
    "configuration": Target(configuration, 1 << 16, (Refused,), 2.0),  # addresses, one by one
    "proxy": Target(proxy, 1 << 12, (ValueError,)),
    "http": Target(http, 1 << 13, (BadRequest,)),
    "dkim": Target(dkim, 1 << 20, (ValueError,)),
    "dkim-keys": Target(dkim_keys, 1 << 14, (ValueError,)),
    "database-pages": Target(database_pages, 1 << 16, s_a_megabyte=5.0),
}

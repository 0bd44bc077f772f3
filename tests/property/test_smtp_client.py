"""The SMTP client over any peer: cutting changes nothing, nothing raises, every message ends in one `Done`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.core.address import Address
from pillarbox.core.engine import PAUSED, Wait
from pillarbox.core.secret import Secret
from pillarbox.mime.lines import has_bare_cr_or_lf
from pillarbox.smtp.client import SmtpClient
from pillarbox.smtp.client_data import DataEncoder
from pillarbox.smtp.client_events import (
    BodyWanted,
    ClientOptions,
    Credentials,
    Done,
    Envelope,
    Event,
    Kind,
    Ready,
    ReadyForDot,
    Recipient,
    TlsMode,
)
from pillarbox.smtp.data import DataDecoder

ENVELOPE = Envelope(None, [Recipient(Address(name, "there.example")) for name in "abc"], 9)
PIECES = [
    b"220 x\r\n",
    b"250-x\r\n250-PIPELINING\r\n250 DSN\r\n",
    b"250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
    b"250 2.0.0 Ok\r\n",
    b"250-",
    b"235 2.7.0 in\r\n",
    b"334 \r\n",
    b"354 go\r\n",
    b"450 4.2.1 later\r\n",
    b"452 too many\r\n",
    b"550 5.1.1 no\r\n",
    b"421 bye\r\n",
    b"EHLO\r\n",
]
GOOD = [
    b"220 x\r\n",
    PIECES[1],
    *[b"250 2.0.0 Ok\r\n"] * 4,
    b"354 go\r\n",
    *[b"250 2.0.0 Ok\r\n"] * 3,
]
scripts = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=24)
near_scripts = st.tuples(st.integers(0, len(GOOD)), scripts).map(
    lambda pair: GOOD[: pair[0]] + pair[1]
)
options = st.builds(
    ClientOptions,
    st.just("us.example"),
    lmtp=st.booleans(),
    tls=st.sampled_from(TlsMode),
    credentials=st.sampled_from([None, Credentials("tim", Secret("x"))]),
)


def run(engine: SmtpClient, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """What is said and told, with a service that sends the same message again and again."""
    events: list[Event] = []
    sent = b""
    bodies: list[bytes] = []
    for piece in [*pieces, b""]:
        engine.receive(piece)
        while True:
            while not isinstance(event := engine.next_event(), Wait):
                events.append(event)
                if isinstance(event, Ready | Done) and not engine.closing:
                    engine.send_message(ENVELOPE)
                    bodies = [b".a\r\n", b"b"]
                elif isinstance(event, BodyWanted):
                    engine.send_body(bodies.pop(0), is_last=not bodies)
                elif isinstance(event, ReadyForDot):
                    engine.finish()
            output = b"".join(engine.data_to_send())
            sent += output
            if engine.wants_tls and event is PAUSED:
                engine.tls_started()
            elif not output:
                break
        if not piece or engine.closing:
            break
    return events, sent


@settings(max_examples=200)
@given(options, near_scripts, st.booleans())
def test_whatever_the_peer_says_each_message_ends_once(
    options: ClientOptions, pieces: list[bytes], tls: bool
) -> None:
    engine = SmtpClient(options, tls=tls)
    events, sent = run(engine, pieces)
    assert engine.closing
    done = [event for event in events if isinstance(event, Done)]
    assert len(done) >= sum(isinstance(event, Ready) for event in events)
    assert all(len(event.outcomes) == 3 for event in done)
    delivered = sum(o.kind is Kind.DELIVERED for event in done for o in event.outcomes)
    assert delivered <= 3 * sent.count(b"\r\n.\r\n")
    assert not has_bare_cr_or_lf(sent)
    if options.credentials and not engine.tls:
        assert b"MAIL" not in sent
        assert b"AUTH" not in sent


@settings(max_examples=100)
@given(st.booleans(), near_scripts, st.lists(st.integers(1, 9), max_size=40))
def test_cutting_changes_nothing_unless_a_peer_speaks_out_of_turn(
    lmtp: bool, pieces: list[bytes], sizes: list[int]
) -> None:
    options = ClientOptions("us.example", lmtp=lmtp, tls=TlsMode.NEVER)
    in_turn: list[bytes] = []
    for piece in pieces:
        for size in sizes:
            in_turn.append(piece[:size])
            piece = piece[size:]
        in_turn.append(piece)
    cut = [piece for piece in in_turn if piece]
    whole = [piece for piece in pieces if piece]
    assert run(SmtpClient(options), cut)[0] == run(SmtpClient(options), whole)[0]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.", b"\xff"]), max_size=30)
)
def test_what_goes_out_comes_in(pieces: list[bytes]) -> None:
    encoder = DataEncoder()
    wire = b"".join([*map(encoder.feed, pieces), encoder.finish()])
    assert not has_bare_cr_or_lf(wire)
    decoder = DataDecoder()
    message = decoder.feed(wire + b"QUIT\r\n")
    assert decoder.rest == b"QUIT\r\n"
    lines = b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    expected = b"\r\n".join(lines)
    assert message in (expected, expected + b"\r\n")

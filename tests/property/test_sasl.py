"""SASL machines over any input: they return a step and never raise."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.sasl.bearer import Bearer
from pillarbox.sasl.exchange import (
    BearerToken,
    Challenge,
    ChannelBinding,
    Disproven,
    Proven,
    SaslError,
    Step,
    Surroundings,
    VerifierWanted,
    decode_base64,
    encode_base64,
)
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.sasl.saslprep import saslprep
from pillarbox.sasl.scram import Scram, Verifier

BINDING = ChannelBinding("tls-exporter", b"x" * 32)
VERIFIER = Verifier("sha256", b"salt", 4096, b"k" * 32, b"s" * 32)


@given(st.sampled_from(list(MECHANISMS)), st.none() | st.binary(), st.lists(st.binary()))
@settings(max_examples=100, deadline=None)
def test_machines_end_or_ask(name: str, initial: bytes | None, responses: list[bytes]) -> None:
    machine = MECHANISMS[name].begin(Surroundings("nonce", BINDING))
    step = machine.start(initial)
    for response in responses:
        if isinstance(step, VerifierWanted):
            assert isinstance(machine, Scram)
            step = machine.found([VERIFIER])
        elif isinstance(step, BearerToken):
            assert isinstance(machine, Bearer)
            step = machine.refused()
        if not isinstance(step, Challenge):
            break
        step = machine.respond(response)
    assert isinstance(step, Step)
    assert not isinstance(step, Proven)


SCRAM_PARTS = [b"n,,", b"y,,", b"p=tls-exporter,,", b"a=x", b"n=user", b"r=abc", b"abcnonce"]
SCRAM_PARTS += [b",", b"c=biws", b"p=", b"AAAA", b"m=x", b"=2C", b"=", b"\0", b"\xff"]


@given(
    st.booleans(),
    st.lists(st.sampled_from(SCRAM_PARTS)).map(b"".join),
    st.lists(st.sampled_from(SCRAM_PARTS)).map(b"".join),
)
@settings(max_examples=200, deadline=None)
def test_scram_takes_any_message_and_proves_nothing(plus: bool, first: bytes, final: bytes) -> None:
    machine = Scram(Surroundings("nonce", BINDING if plus else None), plus=plus)
    step = machine.start(first)
    if isinstance(step, VerifierWanted):
        assert isinstance(machine.found([VERIFIER]), Challenge)
        step = machine.respond(final)
        assert isinstance(step, SaslError | Disproven)
    else:
        assert isinstance(step, SaslError)


@given(st.binary())
@settings(max_examples=100, deadline=None)
def test_base64_decodes_only_what_it_encodes(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data
    decoded = decode_base64(data)
    assert decoded is None or len(encode_base64(decoded)) == len(data)


@given(st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_prepared_text_stays_as_it_is(text: str) -> None:
    try:
        prepared = saslprep(text, stored=False)
    except ValueError:
        return
    assert saslprep(prepared, stored=False) == prepared

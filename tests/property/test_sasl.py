"""SASL machines over any input: they return a step and never raise."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.sasl.exchange import (
    Challenge,
    Credentials,
    SaslError,
    decode_base64,
    encode_base64,
)
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.sasl.saslprep import saslprep


@given(st.sampled_from(list(MECHANISMS)), st.none() | st.binary(), st.lists(st.binary()))
@settings(max_examples=100, deadline=None)
def test_machines_end_or_ask(name: str, initial: bytes | None, responses: list[bytes]) -> None:
    machine = MECHANISMS[name]()
    step = machine.start(initial)
    for response in responses:
        if not isinstance(step, Challenge):
            break
        step = machine.respond(response)
    assert isinstance(step, Challenge | Credentials | SaslError)


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

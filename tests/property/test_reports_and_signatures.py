"""Reports, translations and signatures over any octets: nothing raises, nothing gets out of its place."""

from contextlib import suppress
from dataclasses import replace
from email import message_from_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.core.dates import pack_date
from pillarbox.dkim.canonical import relaxed_body, relaxed_field
from pillarbox.dkim.keys import make_ed25519_key
from pillarbox.dkim.sign import Signer, author_domain, sign
from pillarbox.dsn.build import Report, Reported, build_report
from pillarbox.dsn.wishes import (
    Action,
    as_ascii,
    decode_unitext,
    decode_xtext,
    encode_unitext,
    encode_xtext,
)
from pillarbox.outbound.translate import translate
from pillarbox.smtp.reply import Reply

texts = st.text(max_size=30) | st.sampled_from(["\r\n\r\n", "--report_ID", "+0D+0A", "=?x?q?y?="])
octets = st.lists(
    st.sampled_from([b"From: a@b.example", b"\r\n", b"\n", b":", b" ", b"\t", b"\xc3\xa9", b"\xff"])
    | st.binary(max_size=5),
    max_size=20,
).map(b"".join)
REPORTED = Reported("a@there.example", Action.FAILED, "5.0.0")
REPORT = Report(
    "ID", "us.example", "postmaster@us.example", "me@us.example", pack_date(0), [REPORTED], b""
)
SIGNERS = [Signer("us.example", "s", make_ed25519_key())]


@settings(max_examples=150)
@given(
    st.lists(texts, min_size=6, max_size=6),
    octets,
    st.sampled_from(["", "FULL", "HDRS"]),
    st.sampled_from(Action),
)
def test_a_report_has_three_parts_whatever_is_in_it(
    words: list[str], message: bytes, ret: str, action: Action
) -> None:
    address, orcpt, diagnostic, explanation, envid, sender = words
    recipient = replace(
        REPORTED,
        address=address,
        action=action,
        orcpt=orcpt,
        diagnostic=diagnostic,
        explanation=explanation,
        notify="SUCCESS,FAILURE,DELAY",
    )
    report = replace(
        REPORT,
        recipients=[recipient],
        reverse_path=f"{sender}@x",
        message=message,
        envid=envid,
        ret=ret,
    )
    built = build_report(report)
    assert built is not None
    parsed = message_from_bytes(built.octets)
    assert len(parsed.get_payload()) == 3
    assert len(parsed.keys()) <= 11


@settings(max_examples=100)
@given(st.text(max_size=20).filter(str.isascii))
def test_xtext_round_trip(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text


@settings(max_examples=100)
@given(st.integers(200, 599), texts, texts)
def test_any_reply_can_be_translated(code: int, enhanced: str, text: str) -> None:
    translation = translate(Reply(code, enhanced, text))
    assert translation is None or (translation.evidence and "\n" not in translation.evidence)


@settings(max_examples=150)
@given(octets)
def test_any_message_can_be_signed_or_has_no_from(message: bytes) -> None:
    author_domain(message)
    with suppress(ValueError):
        fields = sign(message, SIGNERS, 1)
        assert fields.startswith(b"DKIM-Signature: v=1;")
        assert fields.count(b"\n") == fields.count(b"\r\n")


@settings(max_examples=150)
@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n"]), max_size=40).map(b"".join))
def test_canonical_forms_are_stable(body: bytes) -> None:
    once = relaxed_body(body)
    assert relaxed_body(once) == once
    assert b"  " not in once
    assert b" \r\n" not in once
    field = relaxed_field(b"X: " + body.replace(b"\r\n", b"\r\n "))
    assert relaxed_field(field) == field


@settings(max_examples=150)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_an_address_in_utf8_survives_its_form_of_seven_bits(address: str) -> None:
    """RFC 6533 §3"""
    encoded = encode_unitext(address)
    assert encoded.isascii()
    assert not set(encoded) & set(" +=")
    assert decode_unitext(encoded) == address
    assert as_ascii(f"utf-8;{encoded}") == f"utf-8;{encoded}"
    assert as_ascii(f"utf-8;{address}").isascii()

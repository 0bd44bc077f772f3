"""PLAIN and LOGIN as step machines (RFC 4616, draft-murchison-sasl-login-00)."""

import json

import pytest

from pillarbox.core.secret import Secret
from pillarbox.sasl.bearer import Bearer
from pillarbox.sasl.exchange import (
    BearerToken,
    CertificateClaim,
    Challenge,
    Credentials,
    SaslError,
    Surroundings,
    decode_base64,
    decode_initial,
    encode_base64,
)
from pillarbox.sasl.external import External
from pillarbox.sasl.login import Login
from pillarbox.sasl.mechanisms import MECHANISMS, Needs, offered
from pillarbox.sasl.plain import Plain


def revealed(step: object) -> tuple[str, str, str]:
    assert isinstance(step, Credentials)
    return step.authzid, step.username, step.password.reveal()


def test_a_secret_does_not_show_itself() -> None:
    step = Plain().start(b"\0tim\0tanstaaf")
    assert "tanstaaf" not in repr(step)
    assert str(Secret("x")) == "Secret(...)"
    assert Secret("x") != Secret("x")


def test_plain_examples_of_rfc_4616() -> None:
    assert revealed(Plain().start(b"\0tim\0tanstaaftanstaaf")) == ("", "tim", "tanstaaftanstaaf")
    assert revealed(Plain().start(b"Ursel\0Kurt\0xipj3plmq")) == ("Ursel", "Kurt", "xipj3plmq")


def test_plain_without_initial_response_sends_an_empty_challenge() -> None:
    machine = Plain()
    assert machine.start(None) == Challenge(b"")
    assert revealed(machine.respond("\0tüm\0pässwörd".encode())) == ("", "tüm", "pässwörd")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"\0tim",
        b"\0\0password",
        b"\0tim\0",
        b"\0tim\0pass\0word",
        b"\0tim\0pass\0",
        b"\0t\xffm\0password",
        b"\0tim\0\xed\xa0\x80",  # a surrogate is not UTF-8
        b"\xc0\x80\0tim\0password",  # nor is an overlong NUL
        b"\0" + b"u" * 256 + b"\0password",
        b"\0tim\0" + b"p" * 1025,
    ],
)
def test_plain_refuses_malformed_messages(message: bytes) -> None:
    assert isinstance(Plain().start(message), SaslError)


def test_plain_accepts_255_octets_everywhere() -> None:
    long = b"x" * 255
    assert isinstance(Plain().start(b"\0".join((long, long, long))), Credentials)


def test_login_asks_for_name_and_password() -> None:
    machine = Login()
    assert machine.start(None) == Challenge(b"Username:")
    assert machine.respond(b"tim") == Challenge(b"Password:")
    assert revealed(machine.respond(b"tanstaaf")) == ("", "tim", "tanstaaf")


def test_login_takes_the_name_as_initial_response() -> None:
    machine = Login()
    assert machine.start(b"tim") == Challenge(b"Password:")
    assert revealed(machine.respond(b"tanstaaf")) == ("", "tim", "tanstaaf")


@pytest.mark.parametrize("bad", [b"", b"a\0b", b"\xff", b"x" * 2000])
def test_login_refuses_malformed_responses(bad: bytes) -> None:
    assert isinstance(Login().start(bad), SaslError)
    machine = Login()
    machine.start(b"tim")
    assert isinstance(machine.respond(bad), SaslError)


def test_the_table_makes_a_fresh_machine_for_each_exchange() -> None:
    for row in MECHANISMS.values():
        assert row.begin(Surroundings("nonce")) is not row.begin(Surroundings("nonce"))


def test_only_mechanisms_that_can_work_are_offered() -> None:
    assert offered(Needs.NOTHING) == ("PLAIN", "LOGIN")
    assert offered(Needs.VERIFIERS) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert offered(Needs.BINDING) == ("PLAIN", "LOGIN")
    assert offered(Needs.VERIFIERS | Needs.BINDING)[0] == "SCRAM-SHA-256-PLUS"
    assert "EXTERNAL" in offered(Needs.CERTIFICATE)
    assert offered(Needs.TOKENS) == ("OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN")


def test_nothing_is_offered_that_needs_passwords_in_the_clear() -> None:
    assert not {"CRAM-MD5", "DIGEST-MD5"} & set(MECHANISMS)


def test_external_carries_an_identity_or_none() -> None:
    assert External().start(None) == Challenge(b"")
    assert External().start(b"") == CertificateClaim("")
    assert External().start(b"tim@example.org") == CertificateClaim("tim@example.org")
    assert isinstance(External().start(b"t\0m"), SaslError)


def test_oauthbearer_example_of_rfc_7628() -> None:
    message = (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    machine = Bearer(legacy=False)
    step = machine.start(message)
    assert isinstance(step, BearerToken)
    assert step.authzid == "user@example.com"
    assert step.token.reveal() == "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    assert "vF9" not in repr(step)
    told = machine.refused("https://example.com/.well-known/openid-configuration")
    assert isinstance(told, Challenge)
    assert json.loads(told.data)["status"] == "invalid_token"
    assert isinstance(machine.respond(b"\x01"), SaslError)  # RFC 7628 §3.2.3


def test_xoauth2_carries_a_name_and_a_token() -> None:
    machine = Bearer(legacy=True)
    step = machine.start(b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2\x01\x01")
    assert isinstance(step, BearerToken)
    assert (step.authzid, step.token.reveal()) == ("someuser@example.com", "ya29.vF9dft4qmTc2")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"p=tls-exporter,,\x01auth=Bearer abc\x01\x01",
        b"n,b=x,\x01auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer " + b"x" * 9000 + b"\x01\x01",
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_malformed_bearer_messages_are_refused(message: bytes, legacy: bool) -> None:
    assert isinstance(Bearer(legacy=legacy).start(message), SaslError)


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"", b""),
        (b"dGlt", b"tim"),
        (b"AA==", b"\0"),
        (b"dGl", None),
        (b"dG lt", None),
        (b"dGlt\r", None),
        (b"dGlt=", None),
        (b"dGlt====", None),
        (b"AA==AA==", None),
        (b"*", None),
        (b"=", None),
        (b"\xff\xff\xff\xff", None),
    ],
)
def test_base64_is_strict(encoded: bytes, decoded: bytes | None) -> None:
    assert decode_base64(encoded) == decoded
    if decoded is not None:
        assert encode_base64(decoded) == encoded


def test_equals_sign_is_an_empty_initial_response() -> None:
    assert decode_initial(b"=") == b""
    assert decode_initial(b"AA==") == b"\0"
    assert decode_initial(b"==") is None

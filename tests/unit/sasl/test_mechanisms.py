"""PLAIN and LOGIN as step machines (RFC 4616, draft-murchison-sasl-login-00)."""

import pytest

from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import (
    Challenge,
    Credentials,
    SaslError,
    decode_base64,
    decode_initial,
    encode_base64,
)
from pillarbox.sasl.login import Login
from pillarbox.sasl.mechanisms import MECHANISMS
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
    assert list(MECHANISMS) == ["PLAIN", "LOGIN"]
    assert MECHANISMS["LOGIN"]() is not MECHANISMS["LOGIN"]()


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

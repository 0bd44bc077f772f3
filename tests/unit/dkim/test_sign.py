"""Signatures that others verify (RFC 6376, 8301, 8463)."""

import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pillarbox.dkim.canonical import relaxed_body, relaxed_field
from pillarbox.dkim.keys import (
    format_key,
    make_ed25519_key,
    make_rsa_key,
    parse_key,
    record_name,
    record_text,
    zone_strings,
)
from pillarbox.dkim.sign import Signer, author_domain, sign

RSA = make_rsa_key()
ED25519 = make_ed25519_key()
SIGNERS = [Signer("us.example", "r2026", RSA), Signer("us.example", "e2026", ED25519)]
MESSAGE = (
    b"Received: from a by b\r\n"
    b"From: Me <me@us.example>\r\n"
    b"To: a@there.example,\r\n\t b@there.example\r\n"
    b"Subject:  Two   spaces\t \r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n"
    b"Message-ID: <1@us.example>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nText \t with  spaces  \r\n.\r\n\r\n\r\n"
)


def verify(message: bytes, signers: list[Signer] = SIGNERS) -> list[bool]:
    records = {
        record_name(signer.selector, signer.domain) + ".": record_text(signer.key).encode()
        for signer in signers
    }
    verifier = dkim.DKIM(message)

    def verifies(index: int) -> bool:
        try:
            return bool(
                verifier.verify(index, dnsfunc=lambda name, timeout: records[name.decode()])
            )
        except dkim.DKIMException:
            return False

    return [verifies(index) for index in range(len(signers))]


def test_dkimpy_verifies_both_signatures() -> None:
    assert verify(sign(MESSAGE, SIGNERS, 1528637909) + MESSAGE) == [True, True]


@pytest.mark.parametrize(
    "message",
    [
        b"From: a@us.example\r\n\r\n",
        b"From: a@us.example\r\n\r\n\r\n\r\n",
        b"From: a@us.example\r\n\r\n \t \r\n\r\n",
        b"From: a@us.example\r\n\r\nno line end",
        b"From: a@us.example\r\n\r\nno line end \t",
        b"From:\r\n a@us.example\r\nsubject:\r\n\r\nx\r\n",
        b"From: a@us.example\r\nSubject: caf\xc3\xa9 \xff\r\n\r\ncaf\xc3\xa9\r\n",
        b"From: a@us.example\r\nTo: one@x\r\nTo: two@x\r\nCc: y\r\nTo: three@x\r\n\r\nx\r\n",
        b"From: a@us.example\r\nReferences: " + b" ".join([b"<1@x>"] * 500) + b"\r\n\r\nx\r\n",
        b"From: a@us.example\r\n" + b"List-Id: <x>\r\n" * 30 + b"\r\nx\r\n",
    ],
)
def test_dkimpy_agrees_on_odd_messages(message: bytes) -> None:
    arriving = message if message.endswith(b"\r\n") else message + b"\r\n"  # as DATA leaves it
    assert verify(sign(message, SIGNERS, 1) + arriving) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject:", b"From: evil@us.example\r\nSubject:"),
        (b"Two", b"2"),
        (b"Hi.", b"Ho."),
        (b"\r\n.\r\n", b"\r\n.\r\nmore\r\n"),
        (b"Me <me@", b"Me <you@"),
    ],
)
def test_changes_break_it(old: bytes, new: bytes) -> None:
    signed = sign(MESSAGE, SIGNERS, 1) + MESSAGE
    assert verify(signed.replace(old, new)) == [False, False]


def test_what_relaxed_allows_does_not_break_it() -> None:
    signed = sign(MESSAGE, SIGNERS, 1) + MESSAGE
    for old, new in [
        (b"Subject:  Two   spaces\t \r\n", b"SUBJECT: Two\r\n spaces\r\n"),
        (b"Received: from a", b"Received: from c"),
        (b"\r\n\r\n\r\n", b"\r\n"),
    ]:
        assert verify(signed.replace(old, new)) == [True, True]


def test_the_form_of_a_signature() -> None:
    fields = sign(MESSAGE, SIGNERS, 1528637909)
    assert fields.count(b"DKIM-Signature: ") == 2
    assert max(map(len, fields.split(b"\r\n"))) <= 78
    text = re.sub(rb"\s+", b"", fields).decode()
    assert "v=1;a=rsa-sha256;c=relaxed/relaxed;t=1528637909;d=us.example;s=r2026;" in text
    assert "v=1;a=ed25519-sha256;c=relaxed/relaxed;t=1528637909;d=us.example;s=e2026;" in text
    assert text.count("h=message-id:date:subject:to:from:from;") == 2
    assert ";l=" not in text


def test_the_ed25519_record_of_rfc_8463() -> None:
    # RFC 8463 appendix A.2: the key of RFC 8032 §7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    text = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert record_text(key) == text
    assert record_name("brisbane", "football.example.com") == (
        "brisbane._domainkey.football.example.com"
    )


def test_the_body_hash_of_rfc_8463() -> None:
    # RFC 8463 appendix A.3
    message = (
        b"From: Joe SixPack <joe@football.example.com>\r\n"
        b"Subject: Is dinner ready?\r\n\r\n"
        b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"
    )
    assert b"bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=" in sign(message, SIGNERS, 1)


def test_a_message_without_from_cannot_be_signed() -> None:
    with pytest.raises(ValueError):
        sign(b"Subject: x\r\n\r\nFrom: a@us.example\r\n", SIGNERS, 1)


@pytest.mark.parametrize(
    ("header", "domain"),
    [
        (b"From: Me <me@US.Example>", "us.example"),
        (b"From: a@us.example, b@US.example", "us.example"),
        (b"From: a@us.example, b@there.example", None),
        (b"From: a@us.example\r\nFrom: b@there.example", None),
        (b"From: group: a@us.example;", "us.example"),
        ("From: a@bücher.example".encode(), "xn--bcher-kva.example"),
        (b"From: a@[192.0.2.1]", None),
        (b"From: nobody", None),
        (b"From: a@\xff.example", None),
        (b"To: a@us.example", None),
    ],
)
def test_the_domain_of_from(header: bytes, domain: str | None) -> None:
    assert author_domain(header + b"\r\n\r\nFrom: x@body.example\r\n") == domain


@pytest.mark.parametrize(
    ("domain", "selector"),
    [("us.example", "a_b"), ("us.example", ""), ("U.example", "a"), ("x;y", "a")],
)
def test_a_signer_cannot_break_the_tag_list(domain: str, selector: str) -> None:
    with pytest.raises(ValueError):
        Signer(domain, selector, ED25519)


# Canonical forms


def test_the_example_of_rfc_6376() -> None:
    # RFC 6376 §3.4.5
    assert (
        relaxed_field(b"A: X\r\n") + relaxed_field(b"B : Y\t\r\n\tZ  \r\n") == b"a:X\r\nb:Y Z\r\n"
    )
    assert relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \r\n\t\r\n", b" "])
def test_a_body_without_text_is_empty(body: bytes) -> None:
    assert relaxed_body(body) == b""


# Keys


def test_keys_survive_as_pem() -> None:
    for key in (RSA, ED25519):
        pem = format_key(key)
        assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert record_text(parse_key(pem)) == record_text(key)
    assert isinstance(parse_key(format_key(RSA)), RSAPrivateKey)
    assert RSA.key_size == 2048


def test_keys_of_no_use_are_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
    )
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for pem in (weak, other, b"", b"not a key"):
        with pytest.raises(ValueError):
            parse_key(pem)


def test_long_records_are_cut_into_strings() -> None:
    text = record_text(RSA)
    strings = re.findall(r'"([^"]*)"', zone_strings(text))
    assert len(strings) == 2
    assert "".join(strings) == text
    assert max(map(len, strings)) == 255

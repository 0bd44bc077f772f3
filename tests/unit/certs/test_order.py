"""What a CA sends by ACME is looked at before it is used (certs.order)."""

import socket
from pathlib import Path

import pytest
import trustme

from pillarbox.certs.order import keep, obtain
from pillarbox.certs.renewal import acme_paths
from pillarbox.config.schema import Config, Tls
from pillarbox.core.errors import Unavailable

ISSUED = trustme.CA().create_child_ca().issue_cert("mail.example.org")
KEY = ISSUED.private_key_pem.bytes()
CHAIN = b"".join(each.bytes() for each in ISSUED.cert_chain_pems)
OTHER = trustme.CA().issue_cert("mail.example.org")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "tls").mkdir()
    return Config("mail.example.org", str(tmp_path), tls=Tls(acme=True))


def test_a_chain_and_our_key_take_the_place_of_what_there_is(config: Config) -> None:
    keep(config, KEY, CHAIN)
    path = acme_paths(config)[0]
    assert path.read_bytes() == KEY + CHAIN
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (CHAIN + OTHER.private_key_pem.bytes(), "something other than certificates"),
        (OTHER.private_key_pem.bytes() + CHAIN, "something other than certificates"),
        (CHAIN.replace(b"CERTIFICATE", b"PKCS7"), "something other than certificates"),
        (OTHER.cert_chain_pems[0].bytes(), "is not that of the certificate"),
        (b"", "not PEM with a certificate"),
    ],
)
def test_a_key_of_the_cas_choice_or_another_certificate_is_refused(
    config: Config, chain: bytes, words: str
) -> None:
    """RFC 8555 §11.4: only certificates may stand in what it sends."""
    keep(config, KEY, CHAIN)
    with pytest.raises(ValueError, match=words):
        keep(config, KEY, chain)
    path = acme_paths(config)[0]
    assert path.read_bytes() == KEY + CHAIN
    assert list(path.parent.iterdir()) == [path]


def test_a_certificate_without_a_name_that_was_ordered_is_refused(config: Config) -> None:
    config.tls.acme_names = ["imap.example.org"]
    with pytest.raises(ValueError, match=r"lacks imap\.example\.org"):
        keep(config, KEY, CHAIN)


def test_a_ca_that_does_not_answer_is_told_in_plain_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}/dir"
    tls = Tls(acme=True, acme_directory=url, acme_listen=["127.0.0.1:0"])
    with pytest.raises(Unavailable) as caught:
        obtain(Config("mail.example.org", str(tmp_path), tls=tls))
    assert caught.value.text == (
        f"no certificate by ACME: {url} does not answer: Connection refused"
    )

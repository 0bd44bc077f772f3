"""What an LDAP server may say: nothing of it takes a password elsewhere, holds up a login for long, or is taken for a
wrong password without being one."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from ldap_service import (
    BIND,
    SEARCH,
    UNBIND,
    Answer,
    LdapService,
    ber,
    entry,
    good,
    odd_result,
    result,
)
from test_sources import NO_ADDRESSES, claimant, ldap

import pillarbox.auth.ldap as ldap_module
from pillarbox.auth.failure import with_cause
from pillarbox.auth.source import Claimant
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret


@pytest.fixture
def server() -> Iterator[LdapService]:
    service = LdapService()
    yield service
    service.close()


@pytest.fixture
def named(tmp_path: Path) -> dict[str, Any]:
    """As whom we search."""
    (tmp_path / "password").write_text("of the service\n")
    return {"bind_dn": "cn=service", "bind_password_file": str(tmp_path / "password")}


def user_bind(code: int, *more: Any) -> Answer:
    """The bind of a user, and of nobody, ends so."""

    def answer(message: int, tag: int, octets: bytes) -> bytes:
        if tag == BIND and b"dc=" in octets:
            return result(message, tag, code, *more)
        return good(message, tag, octets)

    return answer


def search(code: int, *more: Any, found: bool = False) -> Answer:
    def answer(message: int, tag: int, octets: bytes) -> bytes:
        if tag != SEARCH:
            return good(message, tag, octets)
        return (entry(message) if found else b"") + result(message, tag, code, *more)

    return answer


def why(url: str, password: str = "right", **changes: Any) -> str:
    with pytest.raises(Unavailable) as failure:
        ldap(url, **changes).check(claimant("bob", password))
    return with_cause(failure.value)


def test_no_referral_is_followed(server: LdapService, named: dict[str, Any]) -> None:
    """RFC 4511 §4.1.10 lets the client choose: the other server may be anybody, and be reached without TLS."""
    other = LdapService()
    elsewhere = b"all is there", f"{other.url}/dc=evil"
    try:
        for answer in (search(10, *elsewhere), search(10, *elsewhere, found=True)):
            server.answer = answer
            assert why(server.url, **named).endswith("(dc=example,dc=test: referral)")
        for answer in (user_bind(10, *elsewhere), lambda *of: result(of[0], of[1], 10, *elsewhere)):
            server.answer = answer  # ldap3 cannot read such a result of a bind
            assert "does not answer as it should" in why(server.url, **named)
        assert other.requests == []
    finally:
        other.close()


@pytest.mark.parametrize("code", [1, 2, 3, 7, 8, 13, 14, 51, 52, 80])
def test_a_server_that_is_busy_says_nothing_of_a_password(server: LdapService, code: int) -> None:
    server.answer = user_bind(code)
    assert "verifies no password (the bind of a user: " in why(server.url)
    server.answer = search(code)
    assert "cannot be searched (dc=example,dc=test: " in why(server.url)


@pytest.mark.parametrize("code", [19, 32, 48, 49, 50, 53])
def test_a_server_says_no_in_some_ways(server: LdapService, code: int) -> None:
    server.answer = user_bind(code)
    assert ldap(server.url).check(claimant("bob", "wrong")) is None
    server.answer = good
    assert ldap(server.url).check(claimant("bob", "right")) == "bob@example.test"


def test_of_more_than_one_entry_none_is_the_users(server: LdapService) -> None:
    """sizeLimitExceeded: the server knows others, though it gives one."""
    server.answer = search(4, found=True)
    assert ldap(server.url).check(claimant("bob", "right")) is None


def test_an_entry_without_a_name_lets_nobody_in(server: LdapService) -> None:
    """A bind with an empty name is anonymous, and succeeds with any password (RFC 4513 §5.1.1)."""

    def answer(message: int, tag: int, _octets: bytes) -> bytes:
        return (entry(message, dn="") if tag == SEARCH else b"") + result(message, tag)

    server.answer = answer
    assert ldap(server.url).check(claimant("bob", "anything")) is None


SUCCESS = ber(10, b"\0")
BIND_RESPONSE, SEARCH_DONE = 0x61, 0x65


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (SEARCH_DONE, SUCCESS),
        (0x67, SUCCESS),  # ModifyResponse
        (0x78, SUCCESS),  # ExtendedResponse
        (BIND_RESPONSE, ber(10, b"")),
        (BIND_RESPONSE, ber(10, bytes(5))),
        (BIND_RESPONSE, ber(4, b"0")),
        (BIND_RESPONSE, ber(2, b"\0")),
        (BIND_RESPONSE, ber(1, b"\0")),
        (BIND_RESPONSE, ber(10, b"\xff")),
        (BIND_RESPONSE, ber(10, b"\1\0")),
        (BIND_RESPONSE, b""),
    ],
)
def test_only_a_success_that_answers_a_bind_lets_in(
    server: LdapService, kind: int, code: bytes
) -> None:
    """The library takes any kind of answer, and reads an empty code and the text "0" as 0."""

    def answer(message: int, tag: int, octets: bytes) -> bytes:
        if tag == BIND and b"dc=" in octets:
            return odd_result(message, kind, code)
        return good(message, tag, octets)

    server.answer = answer
    assert "the directory of users " in why(server.url)


def test_only_an_answer_to_a_search_says_that_nobody_is_found(server: LdapService) -> None:
    server.answer = lambda message, _tag, _octets: odd_result(message, BIND_RESPONSE, SUCCESS)
    assert why(server.url).endswith("an answer is of the wrong kind)")


@pytest.mark.parametrize("said", NO_ADDRESSES)
def test_what_is_no_address_is_no_answer(server: LdapService, said: str) -> None:
    """As of web services and in tokens."""

    def answer(message: int, tag: int, octets: bytes) -> bytes:
        if tag == SEARCH:
            return entry(message, address=said) + result(message, tag)
        return user_bind(49)(message, tag, octets) if is_wrong else good(message, tag, octets)

    server.answer, is_wrong = answer, False
    assert why(server.url).endswith("the mail of an entry is no address)")
    is_wrong = True
    assert ldap(server.url).check(claimant("bob", "wrong")) is None


def test_an_entry_without_an_address_is_nobodys(server: LdapService) -> None:
    server.answer = lambda message, tag, octets: (
        (entry(message, address="") if tag == SEARCH else b"") + result(message, tag)
    )
    assert ldap(server.url).check(claimant("bob", "right")) is None


def test_time_that_a_login_waited_counts(server: LdapService) -> None:
    late = Claimant("bob", Secret("right"), "192.0.2.1", "imap", time.monotonic() - 3600)
    with pytest.raises(Unavailable) as failure:
        ldap(server.url).check(late)
    assert with_cause(failure.value).endswith("timed out)")


def test_a_server_that_drips_is_given_up(
    server: LdapService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each octet comes soon enough, the answers as a whole do not."""
    monkeypatch.setattr(ldap_module, "TIMEOUT_S", 0.3)
    server.drips = True
    assert why(server.url).endswith("timed out)")


@pytest.mark.parametrize(
    "octets",
    [
        b"\x30\x84\x7f\xff\xff\xff" + b"x" * 600_000,  # one answer of 2 GiB
        entry(1) * 20_000,
        b"\x30\x80" * 200_000,
    ],
)
def test_a_server_that_never_ends_is_given_up(server: LdapService, octets: bytes) -> None:
    server.answer = lambda _message, _tag, _octets: octets
    assert "the directory of users does not answer (" in why(server.url)


@pytest.mark.parametrize(
    "octets",
    [b"\x30\x00", b"\x00" * 64, b"\x30\x05\x02\x01\x01\x61\x00", b"HTTP/1.1 400 Bad\r\n\r\n"],
)
def test_octets_that_make_no_sense_are_no_answer(server: LdapService, octets: bytes) -> None:
    server.answer = lambda _message, _tag, _octets: octets + bytes(200)
    assert "the directory of users does not answer" in why(server.url)


@pytest.mark.parametrize("code", [None, 2, 10, 49, 51, 200])
def test_what_a_server_says_stands_in_no_log(
    server: LdapService, named: dict[str, Any], code: int | None
) -> None:
    """It may repeat a password."""
    server.answer = lambda message, tag, octets: (
        octets if code is None else result(message, tag, code, octets[-40:])
    )
    assert "of the service" not in why(server.url, **named)


def test_a_certificate_of_a_stranger_is_told(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    server = LdapService(tls=context)
    for name, each in (("ca.pem", ca), ("other.pem", other)):
        each.cert_pem.write_to_path(tmp_path / name)
    try:
        good_ca, other_ca = str(tmp_path / "ca.pem"), str(tmp_path / "other.pem")
        found = ldap(server.url, ca_file=good_ca).check(claimant("bob", "right"))
        assert found == "bob@example.test"
        assert "certificate verify failed" in why(server.url, ca_file=other_ca)
        assert "is not valid for '127.0.0.1'" in why(
            server.url.replace("localhost", "127.0.0.1"), ca_file=good_ca
        )
        assert f"{tmp_path}/none.pem: No such file" in why(
            server.url, ca_file=str(tmp_path / "none.pem")
        )
        # The good one's, but for its unbinds: nobody waits for those.
        assert [kind for kind, _ in server.requests if kind != UNBIND] == [BIND, SEARCH, BIND]
    finally:
        server.close()

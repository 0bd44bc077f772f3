"""Access tokens: what is taken, and above all what is not (RFC 7628, RFC 7662)."""

import asyncio
import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from test_sources import NO_ADDRESSES
from web_service import WebService

from pillarbox.auth import keys, lines
from pillarbox.auth.exchange import Exchange, Outcome
from pillarbox.auth.failure import with_cause
from pillarbox.auth.login import Authenticator
from pillarbox.auth.outcomes import TOO_MANY
from pillarbox.auth.outside import ASKED_AT_ONCE, Doors
from pillarbox.auth.passwords import hash_password
from pillarbox.auth.peer import BadToken, Denied, Login, Peer
from pillarbox.auth.throttle import MOST_WITH_ACCOUNT
from pillarbox.auth.tokens import MOST_TRIED, Introspection, SignedTokens, TokenUsers, user_of
from pillarbox.config.schema import Oauth
from pillarbox.core.errors import Unavailable
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Challenge
from pillarbox.store.directory import Directory
from pillarbox.store.logins import Logins
from pillarbox.store.run import LoginFailures

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(65537, 2048)
PUBLIC_PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    algorithms = {
        rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
    }
    public = key.public_key()
    algorithm = next(each for kind, each in algorithms.items() if isinstance(public, kind))
    return {**json.loads(algorithm.to_jwk(public)), "kid": kid, **more}


KEYS = {"keys": [jwk(RSA, "r", alg="RS256"), jwk(EC, "e"), jwk(ED, "d"), {"kty": "odd"}]}
KEYS["keys"].append(
    {"kty": "oct", "kid": "o", "k": base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")}
)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": "https://login.example.test",
        "aud": "mail",
        "exp": now + 300,
        "iat": now,
        "email": "bob@example.test",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def settings(folder: Path, **changes: Any) -> Oauth:
    path = folder / "jwks.json"
    path.write_text(json.dumps(KEYS))
    return Oauth(
        **{
            "issuer": "https://login.example.test",
            "audience": "mail",
            "jwks": str(path),
            **changes,
        }
    )


def signed(key: Any, algorithm: str, kid: str | None, **changes: Any) -> Secret:
    headers = {} if kid is None else {"kid": kid}
    return Secret(jwt.encode(claims(**changes), key, algorithm, headers=headers))


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r"), (EC, "ES256", "e")])
def test_tokens_of_the_issuer_are_taken(tmp_path: Path, key: Any, algorithm: str, kid: str) -> None:
    verifier = SignedTokens(settings(tmp_path))
    found = verifier.claims(signed(key, algorithm, kid))
    assert isinstance(found, dict)
    assert user_of(found, settings(tmp_path)) == "bob@example.test"
    assert isinstance(verifier.claims(signed(ED, "EdDSA", "d")), dict)


def unsigned() -> Secret:
    return Secret(jwt.encode(claims(), None, "none", headers={"kid": "r"}))


def with_public_key_as_hmac_secret() -> Secret:
    """The library refuses to make one, so it is made by hand."""
    import hashlib
    import hmac

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part({"alg": "HS256", "typ": "JWT", "kid": "r"}) + b"." + part(claims())
    mac = base64.urlsafe_b64encode(hmac.digest(PUBLIC_PEM, text, hashlib.sha256)).rstrip(b"=")
    return Secret((text + b"." + mac).decode())


NO_KEY, LACKS = "a key that the issuer has not", "lacks its end, issuer or audience"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (unsigned, "an algorithm that is not its key's"),
        (with_public_key_as_hmac_secret, "an algorithm that is not its key's"),
        # a symmetric key in the set counts for nothing
        (lambda: signed("k" * 32, "HS256", "o"), NO_KEY),
        (lambda: signed(STRANGER, "RS256", "r"), "a bad signature"),
        # the key says RS256
        (lambda: signed(RSA, "PS256", "r"), "an algorithm that is not its key's"),
        (lambda: signed(RSA, "RS256", "e"), "an algorithm that is not its key's"),
        (lambda: signed(RSA, "RS256", "unknown"), NO_KEY),
        (lambda: signed(RSA, "RS256", "r", exp=int(time.time()) - 120), "has expired"),
        (lambda: signed(RSA, "RS256", "r", exp=None), LACKS),
        (lambda: signed(RSA, "RS256", "r", nbf=int(time.time()) + 120), "does not count yet"),
        (lambda: signed(RSA, "RS256", "r", aud="other"), "for another audience"),
        (lambda: signed(RSA, "RS256", "r", aud=None), LACKS),
        (lambda: signed(RSA, "RS256", "r", iss="https://evil.example"), "another issuer's"),
        (lambda: signed(RSA, "RS256", "r", iss=None), LACKS),
        (lambda: Secret("not.a.token"), "no JWT"),
        (lambda: Secret(""), "no JWT"),
        (lambda: Secret("." * 8000), "no JWT"),
    ],
)
def test_other_tokens_are_refused(tmp_path: Path, make: Callable[[], Secret], why: str) -> None:
    found = SignedTokens(settings(tmp_path)).claims(make())
    assert isinstance(found, BadToken)
    assert found.why.endswith(why)


def test_a_token_need_not_name_its_key(tmp_path: Path) -> None:
    """RFC 7515 §4.1.4: kid is optional. Issuers that renew their keys have two of a type."""
    oauth = settings(tmp_path)
    keys = [jwk(STRANGER, "s"), jwk(RSA, "r"), jwk(EC, "e")]
    Path(oauth.jwks).write_text(json.dumps({"keys": keys}))
    for key, algorithm in ((STRANGER, "RS256"), (RSA, "RS256"), (RSA, "PS512"), (EC, "ES256")):
        assert isinstance(SignedTokens(oauth).claims(signed(key, algorithm, None)), dict)
    for changes, why in (
        ({"aud": "other"}, "the token is for another audience"),
        ({"exp": 1}, "the token has expired"),
    ):
        for key in (STRANGER, RSA):
            found = SignedTokens(oauth).claims(signed(key, "RS256", None, **changes))
            assert found == BadToken(why)
    new = ec.generate_private_key(ec.SECP256R1())
    found = SignedTokens(oauth).claims(signed(new, "ES256", None))
    assert found == BadToken("the token has a bad signature")


def test_pipes_in_the_place_of_files_keep_no_thread(tmp_path: Path) -> None:
    oauth = settings(tmp_path)
    Path(oauth.jwks).unlink()
    os.mkfifo(oauth.jwks)
    asked = Oauth(
        introspection_url="http://127.0.0.1:1/", client_id="us", client_secret_file=oauth.jwks
    )
    for verifier in (SignedTokens(oauth), Introspection(asked)):
        with pytest.raises(Unavailable, match="cannot be read") as failure:
            verifier.probe()
        assert with_cause(failure.value).endswith(
            f"no regular file, put one in its place: '{oauth.jwks}')"
        )


def test_few_keys_are_tried(tmp_path: Path) -> None:
    oauth = settings(tmp_path)
    new = [ec.generate_private_key(ec.SECP256R1()) for _ in range(MOST_TRIED + 1)]
    Path(oauth.jwks).write_text(json.dumps({"keys": [jwk(key, "one") for key in new]}))
    verifier = SignedTokens(oauth)
    assert isinstance(verifier.claims(signed(new[-2], "ES256", None)), dict)
    assert isinstance(verifier.claims(signed(new[-1], "ES256", None)), BadToken)


def test_clocks_may_differ_a_little(tmp_path: Path) -> None:
    late = signed(RSA, "RS256", "r", exp=int(time.time()) - 30)
    assert isinstance(SignedTokens(settings(tmp_path)).claims(late), dict)
    assert isinstance(SignedTokens(settings(tmp_path, clock_skew="0s")).claims(late), BadToken)


def test_the_user_needs_the_scope_and_a_verified_address(tmp_path: Path) -> None:
    scoped = settings(tmp_path, scope="imap")
    assert user_of(claims(), scoped) == BadToken("the token lacks the scope")
    assert user_of(claims(scope="openid imap"), scoped) == "bob@example.test"
    assert user_of(claims(scp=["imap"]), scoped) == "bob@example.test"
    unverified, nobody = "the token's address is not verified", "the token says no address"
    for verified in (True, "true"):
        assert user_of(claims(email_verified=verified), settings(tmp_path)) == "bob@example.test"
    for verified in (False, "false", "True", "", 0, 1, [True], {}):
        found = user_of(claims(email_verified=verified), settings(tmp_path))
        assert found == BadToken(unverified), verified
    assert user_of({**claims(), "email_verified": None}, settings(tmp_path)) == BadToken(unverified)
    for email in (["bob@example.test"], "", None, *NO_ADDRESSES):
        assert user_of(claims(email=email), settings(tmp_path)) == BadToken(nobody)


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
def test_short_rsa_keys_are_none(tmp_path: Path) -> None:
    """RFC 7518 §3.3, §3.5: 2048 bits or more."""
    short = rsa.generate_private_key(65537, 1024)
    oauth = settings(tmp_path)
    Path(oauth.jwks).write_text(json.dumps({"keys": [jwk(short, "s"), jwk(RSA, "r")]}))
    for algorithm in ("RS256", "PS256"):
        found = SignedTokens(oauth).claims(signed(short, algorithm, "s"))
        assert found == BadToken("the token is signed with a key that the issuer has not")
    assert SignedTokens(oauth).probe() == "there is 1 key for tokens"


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": []},
        {"kty": {}},
        {"kty": "RSA", "alg": "none", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "alg": ["RS256"]},
        {"kty": "RSA", "n": 1, "e": None},
        {"kty": "RSA", "n": "\ud800", "e": "AQAB"},
        {"kty": "EC", "crv": []},
        {"kty": "OKP", "crv": "X25519", "x": "AQAB"},
        {"kty": "RSA", "use": []},
        {"kty": "RSA", "key_ops": 5},
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)), "kid": "r"},  # a private one
        "RSA",
        [],
    ],
)
def test_a_key_that_is_not_understood_is_ignored(tmp_path: Path, odd: Any) -> None:
    """RFC 7517 §5"""
    oauth = settings(tmp_path)
    Path(oauth.jwks).write_text(json.dumps({"keys": [odd, jwk(RSA, "r")]}))
    assert isinstance(SignedTokens(oauth).claims(signed(RSA, "RS256", "r")), dict)


class Silent:
    """A server of keys that answers when it may."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.is_asked = threading.Event()
        self.web = WebService(self._answer)
        self.keys: Any = KEYS

    def _answer(self, _request: bytes) -> tuple[int, Any]:
        self.is_asked.set()
        self.gate.wait(30)
        return (200, self.keys) if self.keys is not None else (500, {})

    def close(self) -> None:
        self.gate.set()
        self.web.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


def test_known_keys_answer_at_once_whatever_is_fetched(tmp_path: Path, silent: Silent) -> None:
    now = [0.0]
    verifier = SignedTokens(settings(tmp_path, jwks=silent.web.url), lambda: now[0])
    good, stranger = signed(RSA, "RS256", "r"), signed(RSA, "RS256", "unknown")
    assert isinstance(verifier.claims(good), dict)
    silent.gate.clear()
    now[0] += keys.LOOK_AGAIN_S + 1
    strangers = ThreadPoolExecutor(8)
    waiting = [strangers.submit(verifier.claims, stranger, 60) for _ in range(8)]
    assert silent.is_asked.wait(30)
    assert verifier.known(stranger) is None
    assert isinstance(verifier.known(good), dict)
    now[0] += keys.KEYS_LIFE_S  # they are old, and count on
    assert isinstance(verifier.known(good), dict)
    assert not any(each.done() for each in waiting)
    silent.gate.set()
    assert all(isinstance(each.result(30), BadToken) for each in waiting)
    assert len(silent.web.requests) == 2, "one fetch for all"
    strangers.shutdown()


def test_who_waits_for_keys_does_not_wait_longer_than_it_may(
    tmp_path: Path, silent: Silent
) -> None:
    verifier = SignedTokens(settings(tmp_path, jwks=silent.web.url))
    silent.gate.clear()
    for timeout_s in (0.01, 0.0, -1.0):
        with pytest.raises(Unavailable) as failure:
            verifier.claims(signed(RSA, "RS256", "r"), timeout_s)
        assert str(failure.value.__cause__) == f"{silent.web.url}: timed out"
    silent.gate.set()
    assert isinstance(verifier.claims(signed(RSA, "RS256", "r"), 30), dict)
    assert len(silent.web.requests) == 1


def test_a_fetch_that_failed_is_not_repeated_for_each_token(
    tmp_path: Path, silent: Silent, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    verifier = SignedTokens(settings(tmp_path, jwks=silent.web.url), lambda: now[0])
    good, stranger = signed(RSA, "RS256", "r"), signed(RSA, "RS256", "unknown")

    def fail(token: Secret) -> None:
        with pytest.raises(Unavailable) as failure:
            verifier.claims(token)
        assert "status 500" in with_cause(failure.value)

    silent.keys = None
    for _ in range(5):
        fail(good)
    assert len(silent.web.requests) == 1
    silent.keys = KEYS
    now[0] += keys.FAILED_S + 1
    assert isinstance(verifier.claims(good), dict)
    silent.keys = None
    now[0] += keys.LOOK_AGAIN_S + 1
    for _ in range(5):
        fail(stranger)
        assert isinstance(verifier.claims(good), dict)
    now[0] += keys.FAILED_S + 1
    fail(stranger)
    assert len(silent.web.requests) == 3
    assert caplog.text.count("that were known are used on") == 1


@pytest.mark.parametrize("found", [{"keys": []}, {}, {"keys": [{"kty": "oct", "k": "AQAB"}]}])
def test_a_set_without_keys_is_a_fetch_that_failed(
    tmp_path: Path, silent: Silent, found: dict[str, Any]
) -> None:
    """An issuer that loses its keys for a moment logs nobody out, and no program asks for a new password."""
    now = [0.0]
    verifier = SignedTokens(settings(tmp_path, jwks=silent.web.url), lambda: now[0])
    good, stranger = signed(RSA, "RS256", "r"), signed(RSA, "RS256", "unknown")
    silent.keys = found
    for _ in range(3):
        with pytest.raises(Unavailable, match="no keys for tokens that can be used"):
            verifier.claims(good)
    assert len(silent.web.requests) == 1
    silent.keys = KEYS
    now[0] += keys.FAILED_S + 1
    assert isinstance(verifier.claims(good), dict)
    silent.keys = found
    now[0] += keys.LOOK_AGAIN_S + 1
    for _ in range(3):
        with pytest.raises(Unavailable):
            verifier.claims(stranger)
        assert isinstance(verifier.claims(good), dict)
    assert len(silent.web.requests) == 3


def test_a_fetch_that_fails_by_a_bug_is_not_repeated_for_each_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches = 0

    def fail(_found: Any) -> list[Any]:
        nonlocal fetches
        fetches += 1
        raise ZeroDivisionError

    monkeypatch.setattr(keys, "_parse_keys", fail)
    verifier = SignedTokens(settings(tmp_path), lambda: 0.0)
    for _ in range(3):
        with pytest.raises(Unavailable) as failure:
            verifier.claims(signed(RSA, "RS256", "r"))
        assert with_cause(failure.value) == f"{keys.NOT_FETCHED} (ZeroDivisionError)"
    assert fetches == 1


def test_a_file_of_keys_that_takes_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on a file server that is silent, say."""
    answered = threading.Event()

    def read(_path: Path) -> bytes:
        answered.wait(20)
        return b""

    monkeypatch.setattr(keys, "read_regular", read)
    place = tmp_path / "keys"
    verifier = SignedTokens(settings(tmp_path, jwks=str(place)))
    with pytest.raises(Unavailable) as failure:
        verifier.claims(signed(RSA, "RS256", "r"), 0.01)
    assert str(failure.value.__cause__) == f"{place}: timed out"
    answered.set()


def test_a_silent_issuer_keeps_nobody_out_whose_token_is_known(
    tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections say tokens that nobody can know."""
    monkeypatch.setattr(lines, "MOST_WAITING", 20)
    monkeypatch.setattr(lines, "MOST_IN_LINE", 10)
    good = signed(RSA, "RS256", "r")
    now = [0.0]

    async def run() -> None:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        oauth = settings(tmp_path, jwks=silent.web.url)
        users = TokenUsers(SignedTokens(oauth, lambda: now[0]), oauth)
        authenticator = Authenticator(
            directory, failures, doors=Doors(tokens=users), failure_delay_s=0
        )
        assert await authenticator.user_of_token(good, "", PEER) == "bob@example.test"
        silent.gate.clear()
        now[0] += keys.LOOK_AGAIN_S + 1
        flood = [
            asyncio.create_task(
                authenticator.user_of_token(
                    signed(RSA, "RS256", f"u{each}"), "", Peer(f"198.51.100.{each % 4}", "imap")
                )
            )
            for each in range(24)
        ]
        finished = asyncio.as_completed(flood)
        for _ in range(14):
            with pytest.raises(Unavailable):
                await next(finished)
        for address in ("192.0.2.1", "198.51.100.1"):
            found = await authenticator.user_of_token(good, "", Peer(address, "imap"))
            assert found == "bob@example.test"
        silent.gate.set()
        await asyncio.gather(*flood, return_exceptions=True)
        authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(run())


def test_new_keys_are_fetched_but_not_for_each_bad_token(tmp_path: Path) -> None:
    now = [0.0]
    web = WebService(lambda _request: (200, {"keys": KEYS["keys"][:1]}))
    try:
        verifier = SignedTokens(settings(tmp_path, jwks=web.url), lambda: now[0])
        for _ in range(10):
            assert isinstance(verifier.claims(signed(EC, "ES256", "e")), BadToken)
        assert len(web.requests) == 1
        web.answer = lambda _request: (200, KEYS)
        now[0] += keys.LOOK_AGAIN_S + 1
        assert isinstance(verifier.claims(signed(EC, "ES256", "e")), dict)
        assert len(web.requests) == 2
        web.answer = lambda _request: (500, {})
        now[0] += keys.KEYS_LIFE_S + 1
        assert isinstance(
            verifier.claims(signed(EC, "ES256", "e")), dict
        )  # what is known stays good
    finally:
        web.close()


def test_the_issuer_is_asked_once_a_minute_with_our_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    web = WebService(lambda _request: (200, {"active": True, **claims()}))
    try:
        verifier = Introspection(
            Oauth(
                audience="mail",
                introspection_url=web.url,
                client_id="pillarbox",
                client_secret_file=str(secret),
            )
        )
        for _ in range(3):
            assert isinstance(verifier.claims(Secret("opaque")), dict)
        ((headers, body),) = web.requests
        assert body == b"token=opaque&token_type_hint=access_token"
        assert headers["Authorization"] == "Basic " + base64.b64encode(b"pillarbox:s3cret").decode()
        inactive = "the issuer says that the token does not count"
        for answer, why in (
            ({"active": False}, inactive),
            ({"active": "yes", **claims()}, inactive),
            ({}, inactive),
            ({"active": True, **claims(aud="other")}, "the token is for another audience"),
            ({"active": True, **claims(exp=1)}, "the token has expired"),
            ({"active": True, **claims(nbf=1 << 40)}, "the token does not count yet"),
            ({"active": True, **claims(exp="soon")}, "bad token"),
        ):
            web.answer = lambda _request, answer=answer: (200, answer)
            assert verifier.claims(Secret(f"other {answer}")) == BadToken(why)
        for status in (401, 500, 302):
            web.answer = lambda _request, status=status: (status, {})
            with pytest.raises(Unavailable):
                verifier.claims(Secret(f"another {status}"))
    finally:
        web.close()


PEER = Peer("192.0.2.1", "imap")


def exchange_with(tmp_path: Path, mechanism: str, *initial: bytes) -> tuple[Any, Any]:
    """The first answer, and if that is a challenge the one behind it; of the last of several exchanges."""

    async def run() -> tuple[Any, Any]:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        for name in ("bob", "carol"):
            directory.add_account(f"{name}@example.test", *hash_password(Secret("password")))
        oauth = settings(tmp_path)
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        logins = Logins(tmp_path / "logins.db", clock=time.time)
        doors = Doors(tokens=TokenUsers(SignedTokens(oauth), oauth))
        authenticator = Authenticator(directory, failures, logins, doors=doors, failure_delay_s=0)
        assert mechanism in authenticator.mechanisms(PEER)
        for each in initial:
            exchange = Exchange(authenticator, mechanism, PEER)
            first = await exchange.start(each)
            second = await exchange.respond(b"\x01") if isinstance(first, Challenge) else None
        authenticator.close()
        logins.close()
        return first, second

    return asyncio.run(run())


def message(mechanism: str, user: str, token: Secret) -> bytes:
    if mechanism == "XOAUTH2":
        return f"user={user}\x01auth=Bearer {token.reveal()}\x01\x01".encode()
    return f"n,a={user},\x01auth=Bearer {token.reveal()}\x01\x01".encode()


def test_tokens_tried_at_once_are_as_few_as_one_after_another(tmp_path: Path) -> None:
    """That is what wrong ones cost whoever is asked about them."""
    asked: list[str] = []

    class Issuer:
        def known(self, _token: Secret) -> None:
            return None

        def ask(self, token: Secret, _timeout_s: float) -> BadToken:
            asked.append(token.reveal())
            return BadToken("bad token")

    async def attempt(authenticator: Authenticator, number: int) -> Outcome:
        token = Secret(f"wrong{number}")
        exchange = Exchange(authenticator, "OAUTHBEARER", PEER)
        step = await exchange.start(message("OAUTHBEARER", "bob@example.test", token))
        return await exchange.respond(b"\x01") if isinstance(step, Challenge) else step

    async def run() -> list[Outcome]:
        directory = Directory(tmp_path / "directory.db", clock=time.time)
        directory.add_domain("example.test")
        failures = LoginFailures(tmp_path / "run.db", clock=time.time)
        doors = Doors(tokens=Issuer())
        authenticator = Authenticator(directory, failures, doors=doors, failure_delay_s=0)
        outcomes = await asyncio.gather(*(attempt(authenticator, each) for each in range(45)))
        authenticator.close()
        return outcomes

    outcomes = asyncio.run(run())
    assert MOST_WITH_ACCOUNT <= len(asked) < MOST_WITH_ACCOUNT + ASKED_AT_ONCE
    assert outcomes.count(Denied(TOO_MANY)) == 45 - len(asked)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_logs_in_whom_it_names_and_nobody_else(tmp_path: Path, mechanism: str) -> None:
    good = signed(RSA, "RS256", "r")
    first, _ = exchange_with(tmp_path, mechanism, message(mechanism, "bob@example.test", good))
    assert isinstance(first, Login)
    assert first.account.address == "bob@example.test"


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_is_no_good_for_others(tmp_path: Path, mechanism: str) -> None:
    good = signed(RSA, "RS256", "r")
    first, _ = exchange_with(tmp_path, mechanism, message(mechanism, "carol@example.test", good))
    assert isinstance(first, Denied)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_refused_token_is_explained_then_fails(tmp_path: Path, mechanism: str) -> None:
    """RFC 7628 §3.2.2, §3.2.3"""
    bad = signed(STRANGER, "RS256", "r")
    first, second = exchange_with(tmp_path, mechanism, message(mechanism, "bob@example.test", bad))
    assert isinstance(first, Challenge)
    assert json.loads(first.data)["status"] in ("invalid_token", "401")
    assert isinstance(second, Denied)
    assert not second.is_syntax


def test_why_a_token_was_refused_is_for_the_administrator_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expired = signed(RSA, "RS256", "r", exp=time.time() - 3600)
    other = signed(RSA, "RS256", "r", aud="other")
    answers = []
    for number, token in enumerate((expired, other)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with caplog.at_level("INFO", "pillarbox.auth"):
            said = message("OAUTHBEARER", "bob@example.test", token)
            answers.append(exchange_with(folder, "OAUTHBEARER", said))
        logins = Logins(folder / "logins.db", clock=time.time)
        answers[-1] += (logins.history(1)[0].result,)
        logins.close()
    (first, second, why), (first_of_other, second_of_other, why_of_other) = answers
    assert (first, second) == (first_of_other, second_of_other)
    assert (why, why_of_other) == ("the token has expired", "the token is for another audience")
    assert "reason=the token has expired" in caplog.text


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_program_with_an_expired_token_locks_nobody_out(tmp_path: Path, mechanism: str) -> None:
    expired, good = (signed(RSA, "RS256", "r", exp=time.time() + add) for add in (-3600, 3600))
    tried = [message(mechanism, "bob@example.test", each) for each in (*[expired] * 60, good)]
    first, _ = exchange_with(tmp_path, mechanism, *tried)
    assert isinstance(first, Login)


def without_name(token: Secret) -> bytes:
    return f"n,,\x01auth=Bearer {token.reveal()}\x01\x01".encode()


@pytest.mark.parametrize(("failures", "expected"), [(49, Login), (50, Denied)])
def test_bad_tokens_without_a_name_count_for_the_network_only(
    tmp_path: Path, failures: int, expected: type
) -> None:
    """RFC 7628 §3.1: the name may be left out."""
    tried = [without_name(Secret(f"bad{each}")) for each in range(failures)]
    good = without_name(signed(RSA, "RS256", "r"))
    first, _ = exchange_with(tmp_path, "OAUTHBEARER", *tried, good)
    assert isinstance(first, expected)


def test_tokens_that_are_guessed_are_refused_in_the_end(tmp_path: Path) -> None:
    bad = [signed(STRANGER, "RS256", "r", jti=str(number)) for number in range(30)]
    tried = [message("XOAUTH2", "bob@example.test", each) for each in bad]
    good = message("XOAUTH2", "bob@example.test", signed(RSA, "RS256", "r"))
    first, _ = exchange_with(tmp_path, "XOAUTH2", *tried, good)
    assert isinstance(first, Denied)

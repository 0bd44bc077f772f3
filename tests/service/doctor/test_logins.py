"""Who verifies passwords or tokens is asked, and what is wrong with the answer is told."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from web_service import WebService

from pillarbox.cli.doctor import logins
from pillarbox.cli.doctor.case import Case
from pillarbox.cli.doctor.finding import Finding, Level
from pillarbox.cli.doctor.logins import check_directory, check_tokens
from pillarbox.cli.doctor.lookup import Lookup
from pillarbox.config.schema import Config, DirectorySettings, Oauth

KEY = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))


class Loose:
    """A class of one's own that takes anything."""

    def __init__(self, _settings: DirectorySettings) -> None:
        pass

    def check(self, user: Any) -> str | None:
        return user.username


class Broken(Loose):
    def check(self, user: Any) -> str | None:
        raise KeyError(user.password.reveal())


@pytest.fixture
def web() -> Iterator[WebService]:
    service = WebService(lambda _body: (200, {"address": None}))
    yield service
    service.close()


def look(directory: DirectorySettings | None = None, oauth: Oauth | None = None) -> list[Finding]:
    config = Config("mail.example.test", "data")
    config.directory = directory or config.directory
    config.oauth = oauth or config.oauth

    async def run() -> list[Finding]:
        case = Case(config, {"example.test": []}, Lookup([("127.0.0.1", 1)]))
        return await check_directory(case) + await check_tokens(case)

    return asyncio.run(run())


def test_where_all_is_built_in_there_is_nothing_to_ask() -> None:
    assert look() == []


def test_a_web_service_is_asked_about_nobody(web: WebService) -> None:
    (found,) = look(DirectorySettings("http", url=web.url))
    assert (found.level, found.subject) == (Level.OK, f"the web service {web.url}")
    ((_, body),) = web.requests
    assert json.loads(body)["user"].endswith("@example.test")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {}), "answers with status 500"),
        ((401, {}), "answers with status 401: see directory.token_file"),
        ((200, b"<html>"), "does not send JSON"),
        ((200, {"address": "bob@example.test"}), "a random password of a random user is right"),
    ],
)
def test_a_web_service_that_does_not_answer_as_it_should_is_an_error(
    web: WebService, answer: tuple[int, Any], words: str
) -> None:
    web.answer = lambda _body: answer
    (found,) = look(DirectorySettings("http", url=web.url))
    assert (found.level, words in found.found, bool(found.advice)) == (Level.ERROR, True, True)


@pytest.mark.parametrize("kind", ["http", "ldap"])
def test_who_does_not_answer_is_an_error(kind: Any) -> None:
    scheme = "http" if kind == "http" else "ldap"
    (found,) = look(DirectorySettings(kind, url=f"{scheme}://127.0.0.1:1", base="dc=x"))
    assert found.level is Level.ERROR
    assert "nobody can log in with a password" in found.advice


def test_who_is_silent_is_an_error(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "LOGIN_S", 0.0)
    (found,) = look(DirectorySettings("http", url=web.url))
    assert (found.level, found.found) == (Level.ERROR, "no answer within 0 s")


@pytest.mark.parametrize(
    ("name", "words"), [("Loose", "random user is right"), ("Broken", "it fails: KeyError in /")]
)
def test_a_class_of_ones_own_is_asked_too(name: str, words: str) -> None:
    (found,) = look(DirectorySettings("python", python_class=f"{__name__}:{name}"))
    assert (found.level, words in found.found) == (Level.ERROR, True)


def test_the_keys_of_tokens_are_fetched(web: WebService, tmp_path: Path) -> None:
    oauth = Oauth("https://login.example.test", "mail", web.url)
    web.answer = lambda _body: (200, {"keys": [KEY]})
    (found,) = look(oauth=oauth)
    assert (found.level, found.found) == (Level.OK, "there is 1 key for tokens")
    for answer, words in (
        ((404, {}), "answers with status 404"),
        ((200, {"keys": [{"kty": "oct", "k": "eA"}]}), "no keys for tokens that can be used"),
    ):
        web.answer = lambda _body, answer=answer: answer
        (found,) = look(oauth=oauth)
        assert (found.level, words in found.found) == (Level.ERROR, True)
        assert "oauth.jwks" in found.advice
    (found,) = look(oauth=Oauth("https://login.example.test", "mail", str(tmp_path / "none")))
    assert found.level is Level.ERROR


def test_the_issuer_is_asked_about_a_token_of_nobody(web: WebService) -> None:
    web.answer = lambda _body: (200, {"active": False})
    (found,) = look(oauth=Oauth(introspection_url=web.url))
    assert (found.level, found.found) == (Level.OK, "the issuer answers")
    web.answer = lambda _body: (401, {})
    (found,) = look(oauth=Oauth(introspection_url=web.url))
    assert (found.level, "status 401" in found.found) == (Level.ERROR, True)
    assert "oauth.introspection_url" in found.advice

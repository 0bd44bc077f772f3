"""CAPABILITY, ID, ENABLE, STARTTLS, LOGIN, AUTHENTICATE, NOOP, LOGOUT (RFC 3501 §6.1, §6.2)."""

from pillarbox.auth.exchange import Exchange, Outcome
from pillarbox.auth.peer import Denied
from pillarbox.auth.peer import Login as LoggedIn
from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap import responses
from pillarbox.imap.events import AuthResponse
from pillarbox.imap.syntax_session import Authenticate, Enable, Id, Login
from pillarbox.imap.table import State
from pillarbox.imapd.client import Answer, Client
from pillarbox.sasl.exchange import Challenge, Credentials
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.trace.events import Identified

MOST_LOGIN_FAILURES = 10
"""Of one connection, before it is closed."""

LONGEST_NAME = 200
"""Characters of a client's name that the trace gets."""


async def capability(client: Client, args: None) -> Answer:
    client.engine.send(responses.capability(client.capabilities()))
    return Answer("Capability completed.")


async def noop(client: Client, args: None) -> Answer:
    return Answer("NOOP completed.")


async def identify(client: Client, args: Id) -> Answer:
    """RFC 2971. What the client says is for the trace; it must change nothing (§3)."""
    recorder = client.context.store.recorder
    if recorder.is_on and args.parameters:
        recorder.add(Identified(client.connection.introduce(), _name_of(args.parameters)))
    client.engine.send(responses.identity({"name": "Pillarbox"}))
    return Answer("ID completed.")


def _name_of(parameters: dict[str, str | None]) -> str:
    """What a client calls itself: name and version."""
    said = [parameters.get(key) or "" for key in ("name", "version")]
    return " ".join(filter(None, said))[:LONGEST_NAME] or "a client without a name"


async def enable(client: Client, args: Enable) -> Answer:
    """RFC 5161 §3.1: capabilities that cannot be enabled are ignored."""
    had_condstore = client.modes.condstore
    client.engine.send(responses.enabled(client.modes.enable(args.capabilities)))
    client.engine.utf8 = client.modes.utf8_names
    client.engine.takes_charset = not client.modes.utf8
    if client.modes.condstore and not had_condstore:
        client.tell_modseq()
    return Answer("Enabled.")


async def starttls(client: Client, args: None) -> Answer:
    return Answer("Begin TLS negotiation now.")


async def logout(client: Client, args: None) -> Answer:
    client.engine.send_untagged(b"BYE", "Logging out")
    return Answer("Logout completed.")


async def login(client: Client, args: Login) -> Answer:
    _ensure_private(client)
    credentials = Credentials("", args.userid, args.password)
    outcome = await client.context.authenticator.login(credentials, client.peer)
    return _finish(client, outcome)


async def authenticate(client: Client, args: Authenticate) -> Answer | None:
    authenticator, peer = client.context.authenticator, client.peer
    if args.mechanism not in MECHANISMS:
        raise Refused("that authentication mechanism is not supported")
    _ensure_private(client)
    if args.mechanism not in authenticator.mechanisms(peer):
        raise Refused("that authentication mechanism is not to be had on this connection")
    client.exchange = Exchange(authenticator, args.mechanism, peer)
    return _go_on(client, await client.exchange.start(args.initial_response))


async def respond(client: Client, response: AuthResponse) -> Answer | None:
    """The client's answer to a challenge."""
    assert client.exchange is not None
    if response.data is None:
        client.exchange = None
        _count_failure(client)  # whoever begins exchanges and never ends one
        raise RemoteError(response.problem)
    return _go_on(client, await client.exchange.respond(response.data))


def _go_on(client: Client, outcome: Outcome) -> Answer | None:
    """None: the exchange goes on."""
    if isinstance(outcome, Challenge):
        client.engine.challenge(outcome.data)
        return None
    client.exchange = None
    return _finish(client, outcome)


def _ensure_private(client: Client) -> None:
    """Raises Refused where a password would travel in the clear (RFC 3501 §6.2.3, RFC 5530 §3)."""
    if not client.may_login:
        raise Refused("say STARTTLS first: no login without encryption", "PRIVACYREQUIRED")


def _count_failure(client: Client) -> None:
    client.login_failures += 1
    if client.login_failures >= MOST_LOGIN_FAILURES:
        client.engine.bye("Too many failed logins")


def _finish(client: Client, outcome: LoggedIn | Denied) -> Answer:
    if isinstance(outcome, Denied):
        _count_failure(client)
        # RFC 5530 §3
        is_other = outcome.is_authorization
        raise Refused(outcome.text, "AUTHORIZATIONFAILED" if is_other else "AUTHENTICATIONFAILED")
    account = outcome.account
    if account.referral:  # RFC 2221 §4.1
        return Answer(
            "This account is on another server", b"REFERRAL " + account.referral.encode(), b"NO"
        )
    client.account = account
    client.connection.account = account.id
    client.connection.supporter = outcome.supporter.id if outcome.supporter else 0
    client.connection.introduce()
    names = client.capabilities(State.AUTHENTICATED)
    return Answer("Logged in", b"CAPABILITY " + b" ".join(names))

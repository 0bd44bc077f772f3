"""CAPABILITY, ID, ENABLE, STARTTLS, LOGIN, AUTHENTICATE, NOOP, LOGOUT (RFC 3501 §6.1, §6.2)."""

import logging

from pillarbox.core.address import canonical_domain
from pillarbox.core.errors import Refused, RemoteError
from pillarbox.imap import responses
from pillarbox.imap.events import AuthResponse
from pillarbox.imap.syntax_session import Authenticate, Enable, Id, Login
from pillarbox.imap.table import State
from pillarbox.imapd.capabilities import AUTH
from pillarbox.imapd.client import Answer, Client
from pillarbox.sasl.exchange import Challenge, Credentials, Step
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.store.directory import Account

MOST_LOGIN_FAILURES = 10
"""Of one connection, before it is closed."""

log = logging.getLogger("pillarbox.imapd")


async def capability(client: Client, args: None) -> Answer:
    client.engine.send(responses.capability(client.capabilities()))
    return Answer("Capability completed.")


async def noop(client: Client, args: None) -> Answer:
    return Answer("NOOP completed.")


async def identify(client: Client, args: Id) -> Answer:
    """RFC 2971. What the client says is not used; it must change nothing (§3)."""
    client.engine.send(responses.identity({"name": "Pillarbox"}))
    return Answer("ID completed.")


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
    return await _verify(client, Credentials("", args.userid, args.password))


async def authenticate(client: Client, args: Authenticate) -> Answer | None:
    if args.mechanism not in MECHANISMS or b"AUTH=" + args.mechanism.encode() not in AUTH:
        raise Refused("that authentication mechanism is not supported")
    _ensure_private(client)
    client.exchange = MECHANISMS[args.mechanism]()
    return await _go_on(client, client.exchange.start(args.initial_response))


async def respond(client: Client, response: AuthResponse) -> Answer | None:
    """The client's answer to a challenge."""
    assert client.exchange is not None
    if response.data is None:
        client.exchange = None
        raise RemoteError(response.problem)
    return await _go_on(client, client.exchange.respond(response.data))


async def _go_on(client: Client, step: Step) -> Answer | None:
    """None: the exchange goes on."""
    if isinstance(step, Challenge):
        client.engine.challenge(step.data)
        return None
    client.exchange = None
    if isinstance(step, Credentials):
        return await _verify(client, step)
    raise Refused(step.text, "AUTHENTICATIONFAILED")


def _ensure_private(client: Client) -> None:
    """Raises Refused where a password would travel in the clear (RFC 3501 §6.2.3, RFC 5530 §3)."""
    if not client.may_login:
        raise Refused("say STARTTLS first: no login without encryption", "PRIVACYREQUIRED")


async def _verify(client: Client, credentials: Credentials) -> Answer:
    account = await client.context.authenticator.login(
        credentials.username, credentials.password, client.connection.peer[0]
    )
    if account is None:
        client.login_failures += 1
        if client.login_failures >= MOST_LOGIN_FAILURES:
            client.engine.bye("Too many failed logins")
        raise Refused("authentication failed", "AUTHENTICATIONFAILED")
    if credentials.authzid and not _is_same(credentials.authzid, account):
        raise Refused("you cannot act for another user", "AUTHORIZATIONFAILED")
    if account.referral:  # RFC 2221 §4.1
        return Answer(
            "This account is on another server", b"REFERRAL " + account.referral.encode(), b"NO"
        )
    client.account = account
    client.connection.account = account.id
    log.info(
        "%s %s: %s logged in", client.connection.id, client.connection.peer[0], account.address
    )
    names = client.capabilities(State.AUTHENTICATED)
    return Answer("Logged in", b"CAPABILITY " + b" ".join(names))


def _is_same(authzid: str, account: Account) -> bool:
    """Whether an authorization identity is the account's own (RFC 4616 §2)."""
    local, at, domain = authzid.lower().rpartition("@")
    if not at:
        return account.address.rpartition("@")[0] == domain
    try:
        return account.address == f"{local}@{canonical_domain(domain)}"
    except ValueError:
        return False

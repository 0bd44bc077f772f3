"""One order of a certificate by ACME (RFC 8555 §7). A program of its own, `python -m pillarbox.certs.order`: the
configuration comes as JSON on stdin, descriptors of bound sockets as arguments; what went wrong goes as one line to
stderr, with exit code 1.

Blocks for minutes. Only this module imports `acme`.
"""

import contextlib
import datetime
import fcntl
import os
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JosepyError
from josepy.json_util import encode_b64jose
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

from pillarbox import __version__
from pillarbox.certs.challenges import Answers, make_answers
from pillarbox.certs.files import write_whole
from pillarbox.certs.pair import read_pair
from pillarbox.certs.renewal import (
    account_key_path,
    acme_paths,
    forget_failures,
    note_failure,
    wanted_names,
)
from pillarbox.config.schema import Config
from pillarbox.core.errors import Failure, Refused, Unavailable

_ORDER_S = 180
_REQUEST_S = 30
_MORE_NONCES = 4


class _Network(client.ClientNetwork):
    """Its own answer to a nonce that is refused is one more attempt; some CAs refuse several in a row."""

    verify_ssl: Any
    """Goes to `requests`, which also takes the path of a file of CAs."""

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(_MORE_NONCES):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":  # RFC 8555 §6.5
                    raise
        return super().post(*args, **kwargs)


def obtain(config: Config, bound: Sequence[socket.socket] = ()) -> None:
    """Get a certificate and put it where the server finds it; a failure is noted, too. `bound`: where to listen.

    Raises Failure.
    """
    folder = config.data_path / "tls"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(config):
        try:
            _obtain(config, bound)
        except (
            errors.Error,
            requests.RequestException,
            JosepyError,
            OSError,
            ValueError,
            Failure,
        ) as error:
            reason = _words(error)
            now = datetime.datetime.now(datetime.UTC)
            note_failure(config, reason, now.timestamp())
            raise Unavailable(f"no certificate by ACME: {reason}") from error
        forget_failures(config)


@contextlib.contextmanager
def _only_one(config: Config) -> Iterator[None]:
    """The server and a command do not order at the same time. Raises Refused."""
    path = config.data_path / "tls" / "acme.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused("another order for a certificate is under way") from error
        yield
    finally:
        os.close(descriptor)


def _obtain(config: Config, bound: Sequence[socket.socket]) -> None:
    account_key = JWKEC(key=ComparableECKey(_account_key(config)))
    account = _register(config, account_key)
    key = _new_key()
    csr = crypto_util.make_csr(key, list(wanted_names(config)))
    order = account.new_order(csr)
    # The library compares with local time without a zone.
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=_ORDER_S)
    answers = make_answers(config.tls, bound)
    try:
        thumbprint = encode_b64jose(account_key.thumbprint())
        _answer(account, order, answers, config.tls.acme_challenge, thumbprint)
        order = account.poll_and_finalize(order, deadline)
    finally:
        answers.close()
    keep(config, key, order.fullchain_pem.encode())


def _register(config: Config, key: JWKEC) -> client.ClientV2:
    """With the account of our key, made if need be (RFC 8555 §7.3)."""
    net = _Network(key, alg=ES256, user_agent=f"pillarbox/{__version__}", timeout=_REQUEST_S)
    if config.tls.acme_ca_file:
        net.verify_ssl = config.tls.acme_ca_file
    account = client.ClientV2(client.ClientV2.get_directory(config.tls.acme_directory, net), net)
    contact = config.tls.acme_contact
    new = messages.NewRegistration.from_data(
        email=contact or None,
        terms_of_service_agreed=True,
    )
    try:
        account.new_account(new)
    except errors.ConflictError as found:  # RFC 8555 §7.3.1: that key has an account
        net.account = messages.RegistrationResource(
            uri=found.location, body=messages.Registration()
        )
    return account


def _account_key(config: Config) -> ec.EllipticCurvePrivateKey:
    path = account_key_path(config)
    if not path.exists():
        write_whole(path, _new_key(), 0o600)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an ECDSA key")
    return key


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _answer(
    account: client.ClientV2,
    order: messages.OrderResource,
    answers: Answers,
    kind: str,
    thumbprint: str,
) -> None:
    """Let the CA look, once all answers are in place: names may share a record."""
    ready = []
    for authorization in order.authorizations:
        body = authorization.body
        if body.status == messages.STATUS_VALID:
            continue
        found = [each for each in body.challenges if each.chall.to_json()["type"] == kind]
        if not found:
            raise Refused(f"the CA offers no {kind} for {body.identifier.value}")
        token = found[0].chall.to_json()["token"]
        key_authorization = f"{token}.{thumbprint}"  # RFC 8555 §8.1
        answers.add(body.identifier.value.lower(), token, key_authorization)
        ready.append((found[0], key_authorization))
    if not ready:
        return
    answers.settle()
    for challenge, key_authorization in ready:
        # The answer is {} for all kinds (RFC 8555 §7.5.1).
        response = challenges.HTTP01Response(key_authorization=key_authorization)
        account.answer_challenge(challenge, response)


def keep(config: Config, key: bytes, chain: bytes) -> None:
    """Only what can be used takes the place of what there is. Raises ValueError, OSError."""
    # RFC 8555 §11.4: a key of the CA's choice may stand in what it sends
    if chain.count(b"-----BEGIN") != chain.count(b"-----BEGIN CERTIFICATE-----"):
        raise ValueError("what the CA sent has something other than certificates in it")
    path = acme_paths(config)[0]
    candidate = path.with_name("acme-candidate.pem")
    write_whole(candidate, key + chain, 0o600)
    try:
        pair = read_pair((candidate, candidate))
        if missing := set(wanted_names(config)) - set(pair.names):
            raise ValueError(f"the CA's certificate lacks {', '.join(sorted(missing))}")
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)


def _words(error: Exception) -> str:
    """In one line."""
    if isinstance(error, errors.ValidationError):
        reasons = [
            f"{each.body.identifier.value}: {challenge.error.detail or challenge.error.code}"
            for each in error.failed_authzrs
            for challenge in each.body.challenges
            if challenge.error is not None
        ]
        text = "; ".join(reasons)
    elif isinstance(error, messages.Error):
        text = f"{error.detail or ''} ({error.code or error.typ})"
    elif isinstance(error, Failure):
        text = error.text
    elif isinstance(error, errors.TimeoutError):
        text = "the CA did not come to an end in time"
    elif isinstance(error, requests.ConnectionError):
        text = _unreachable(error)
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())[:500]


def _unreachable(error: requests.ConnectionError) -> str:
    """What the system or TLS said at the bottom of it."""
    where = "the CA" if error.request is None else str(error.request.url)
    reason, cause = "", error.__context__
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f": its certificate: {cause.verify_message}"
        elif isinstance(cause, OSError) and cause.strerror:
            reason = f": {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return f"{where} does not answer{reason}"


def main() -> int:
    """What the server starts."""
    os.umask(0o077)
    config = msgspec.json.decode(sys.stdin.buffer.read(), type=Config)
    try:
        obtain(config, [socket.socket(fileno=int(each)) for each in sys.argv[1:]])
    except Failure as failure:
        print(failure.text, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

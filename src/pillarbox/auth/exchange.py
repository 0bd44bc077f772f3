"""One SASL exchange for SMTP, IMAP and POP3 alike: the machine's steps are answered by the authenticator.

A service passes on what the client sends, and sends each Challenge; the end is a Login or a Denied.
"""

from pillarbox.auth.login import WRONG, Authenticator, Candidates
from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.sasl.exchange import (
    Challenge,
    Credentials,
    Disproven,
    Proven,
    SaslError,
    Step,
    VerifierWanted,
)
from pillarbox.sasl.scram import Scram

Outcome = Challenge | Login | Denied


class Exchange:
    """From AUTH or AUTHENTICATE to its end. Its methods raise Unavailable."""

    __slots__ = ("_authenticator", "_candidates", "_machine", "_mechanism", "_peer")

    def __init__(self, authenticator: Authenticator, mechanism: str, peer: Peer) -> None:
        """`mechanism` is one of `authenticator.mechanisms(peer)`."""
        self._authenticator = authenticator
        self._mechanism = mechanism
        self._peer = peer
        self._machine = authenticator.begin(mechanism, peer)
        self._candidates: Candidates | None = None

    async def start(self, initial: bytes | None) -> Outcome:
        """`initial` is the decoded initial response, None if there was none."""
        return await self._answer(self._machine.start(initial))

    async def respond(self, response: bytes) -> Outcome:
        """The decoded answer to the last challenge."""
        return await self._answer(self._machine.respond(response))

    async def _answer(self, step: Step) -> Outcome:
        authenticator, peer, mechanism = self._authenticator, self._peer, self._mechanism
        match step:
            case Challenge():
                return step
            case SaslError():
                return Denied(step.text, is_syntax=True)
            case Credentials():
                return await authenticator.login(step, peer, mechanism)
            case VerifierWanted():
                return await self._find(step)
            case Proven():
                assert self._candidates is not None
                names = authenticator.split(step.username, step.authzid)
                return await authenticator.proven(
                    self._candidates, step.index, names, peer, mechanism
                )
            case Disproven():
                username, _ = authenticator.split(step.username, step.authzid)
                return await authenticator.disproven(username, peer, mechanism)
            case _:
                return Denied(WRONG)

    async def _find(self, step: VerifierWanted) -> Outcome:
        authenticator, peer = self._authenticator, self._peer
        username, _ = authenticator.split(step.username, step.authzid)
        if not authenticator.may_try(username, peer):
            return await authenticator.refuse(username, peer, self._mechanism)
        self._candidates = authenticator.candidates(username, peer)
        assert isinstance(self._machine, Scram)
        return await self._answer(self._machine.found(self._candidates.verifiers))

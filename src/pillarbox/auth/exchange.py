"""One SASL exchange for SMTP, IMAP and POP3 alike: the machine's steps are answered by the authenticator.

A service passes on what the client sends, and sends each Challenge; the end is a Login or a Denied.
"""

from pillarbox.auth.candidates import Candidates
from pillarbox.auth.certificate import addresses_of
from pillarbox.auth.login import Authenticator
from pillarbox.auth.peer import BadToken, Denied, Login, Peer
from pillarbox.sasl.bearer import Bearer
from pillarbox.sasl.exchange import (
    BearerToken,
    CertificateClaim,
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

    __slots__ = (
        "_authenticator",
        "_begun",
        "_candidates",
        "_denied",
        "_is_asked",
        "_machine",
        "_mechanism",
        "_peer",
    )

    def __init__(self, authenticator: Authenticator, mechanism: str, peer: Peer) -> None:
        """`mechanism` is one of `authenticator.mechanisms(peer)`."""
        self._authenticator = authenticator
        self._mechanism = mechanism
        self._peer = peer
        self._machine = authenticator.begin(mechanism, peer)
        self._candidates: Candidates | None = None
        self._begun = 0
        """What the authenticator knows this attempt by."""
        self._is_asked = False
        """Whether the client's proof is waited for."""
        self._denied: Denied | None = None  # said, once the client has heard why

    async def start(self, initial: bytes | None) -> Outcome:
        """`initial` is the decoded initial response, None if there was none."""
        self._authenticator.ensure_domains()
        return await self._answer(self._machine.start(initial))

    async def respond(self, response: bytes) -> Outcome:
        """The decoded answer to the last challenge."""
        if not self._is_asked:
            return await self._answer(self._machine.respond(response))
        self._is_asked = False
        authenticator, peer, candidates = self._authenticator, self._peer, self._candidates
        assert candidates is not None
        step = self._machine.respond(response)
        if isinstance(step, SaslError):
            return await self._answer(step)  # no proof, so it was not brought to an end
        if not authenticator.take_proof(self._begun, candidates, peer):
            return await authenticator.refuse(candidates.user.name, peer, self._mechanism)
        return await self._answer(step)

    async def _answer(self, step: Step) -> Outcome:
        authenticator, peer, mechanism = self._authenticator, self._peer, self._mechanism
        match step:
            case Challenge():
                return step
            case SaslError():
                if self._denied is not None:
                    return self._denied
                return Denied(step.text, is_syntax=True)
            case Credentials():
                return await authenticator.login(step, peer, mechanism)
            case VerifierWanted():
                return await self._find(step)
            case Proven():
                assert self._candidates is not None
                _, wanted = authenticator.split(step.username, step.authzid)
                return await authenticator.proven(
                    self._candidates, step.index, wanted, peer, mechanism
                )
            case Disproven():
                username, _ = authenticator.split(step.username, step.authzid)
                void = None
                if self._candidates is not None and step.void >= 0:
                    void = self._candidates.void[step.void]
                return await authenticator.disproven(username, peer, mechanism, void=void)
            case BearerToken():
                return await self._take_token(step)
            case CertificateClaim():
                return await self._take_certificate(step)

    async def _take_token(self, step: BearerToken) -> Outcome:
        authenticator, peer, mechanism = self._authenticator, self._peer, self._mechanism
        username = step.authzid
        user = await authenticator.user_of_token(step.token, username, peer)
        if user is None:
            return await authenticator.refuse(username, peer, mechanism)
        if isinstance(user, BadToken):
            denied = await authenticator.refuse_token(user, step.token, username, peer, mechanism)
            assert isinstance(self._machine, Bearer)
            self._denied = denied
            return await self._answer(self._machine.refused(authenticator.doors.configuration_url))
        return await authenticator.vouched([user], step.authzid, peer, mechanism)

    async def _take_certificate(self, step: CertificateClaim) -> Outcome:
        addresses = addresses_of(self._peer.certificate) if self._peer.certificate else []
        return await self._authenticator.vouched(
            addresses, step.authzid, self._peer, self._mechanism
        )

    async def _find(self, step: VerifierWanted) -> Outcome:
        authenticator, peer = self._authenticator, self._peer
        username, _ = authenticator.split(step.username, step.authzid)
        begun = authenticator.begin_proof(username, peer)
        if begun is None:
            return await authenticator.refuse(username, peer, self._mechanism)
        candidates, self._begun = begun
        self._candidates = candidates
        self._is_asked = True
        assert isinstance(self._machine, Scram)
        return await self._answer(
            self._machine.found(candidates.verifiers, candidates.void_verifiers)
        )

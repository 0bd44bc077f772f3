"""Proofs of logins: one worker's are known to all, and none counts that is over, damaged, or of a former password."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from pillarbox.auth import login as login_module
from pillarbox.auth.login import Authenticator
from pillarbox.auth.passwords import hash_password
from pillarbox.auth.peer import Denied, Login, Peer
from pillarbox.auth.proofs import PLACES, TABLE_OCTETS, Proof, Proofs
from pillarbox.core.secret import Secret
from pillarbox.sasl.exchange import Credentials
from pillarbox.store.directory import Directory
from pillarbox.store.run import LoginFailures

SECRET = bytes(32)


class Rig:
    """Two workers with one table."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.table = bytearray(TABLE_OCTETS)
        self.one, self.other = (
            Proofs(SECRET, memoryview(self.table), lambda: self.now) for _ in range(2)
        )


def keys(proofs: Proofs, count: int) -> list[bytes]:
    return [proofs.key(None, Secret(f"password {number}")) for number in range(count)]


def test_what_one_worker_has_verified_the_other_knows_until_it_is_over() -> None:
    rig = Rig()
    own, app = keys(rig.one, 2)
    rig.one.add(own, 0, 60)
    rig.one.add(app, 7, 60)
    assert rig.other.find(own) == Proof(0)
    assert rig.other.find(app) == Proof(7)
    assert rig.other.find(keys(rig.one, 3)[2]) is None
    rig.now += 60
    assert rig.other.find(own) is None


def test_another_secret_makes_other_keys() -> None:
    rig = Rig()
    elsewhere = Proofs(b"x" * 32, memoryview(rig.table), lambda: rig.now)
    (key,) = keys(rig.one, 1)
    rig.one.add(key, 0, 60)
    assert elsewhere.find(keys(elsewhere, 1)[0]) is None
    assert elsewhere.find(key) is None, "the seal is of another secret"


def test_no_damaged_proof_counts() -> None:
    """Two workers that write one slot at the same moment leave a mixture."""
    rig = Rig()
    (key,) = keys(rig.one, 1)
    rig.one.add(key, 7, 60)
    used = [place for place, octet in enumerate(rig.table) if octet]
    dice = random.Random(3)
    for place in range(min(used) // 48 * 48, max(used) + 1):
        octet = rig.table[place]
        rig.table[place] ^= 1 << dice.randrange(8)
        assert rig.other.find(key) is None
        rig.table[place] = octet
    assert rig.other.find(key) == Proof(7)


def test_the_one_that_ends_first_gives_way() -> None:
    rig = Rig()
    same = [os.urandom(8).join([b"\0" * 8, bytes(16)]) for _ in range(PLACES + 1)]
    for number, key in enumerate(same):
        rig.one.add(key, number, 60 + number)
    assert [rig.one.find(key) for key in same] == [None, *map(Proof, range(1, PLACES + 1))]


def test_a_proof_is_renewed_in_its_place() -> None:
    rig = Rig()
    same = [os.urandom(8).join([b"\0" * 8, bytes(16)]) for _ in range(PLACES)]
    for _ in range(3):
        for key in same:
            rig.one.add(key, 1, 60)
    assert all(rig.one.find(key) for key in same)


@pytest.mark.parametrize("is_removed", [False, True])
def test_workers_hash_a_password_once_and_an_app_password_counts_while_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    hashed = []
    verify = login_module.verify_password
    monkeypatch.setattr(
        login_module, "verify_password", lambda *args: (hashed.append(args), verify(*args))[1]
    )

    async def scenario() -> None:
        rig = Rig()
        directory = Directory(tmp_path / "directory.db", clock=lambda: rig.now)
        directory.add_domain("example.test")
        bob = directory.add_account("bob@example.test", *hash_password(Secret("right password")))
        failures = LoginFailures(tmp_path / "run.db", clock=lambda: rig.now)
        workers = [
            Authenticator(directory, failures, failure_delay_s=0.01, proofs=proofs)
            for proofs in (rig.one, rig.other)
        ]

        async def login(worker: int, password: str) -> Login | Denied:
            credentials = Credentials("", bob.address, Secret(password))
            return await workers[worker].login(credentials, Peer("192.0.2.1", "imap"))

        for number in (0, 1, 0, 1):
            assert isinstance(await login(number, "right password"), Login)
        assert len(hashed) == 1
        if is_removed:
            directory.credentials.set_password(bob.id, *hash_password(Secret("another password")))
            assert isinstance(await login(1, "right password"), Denied)
        for authenticator in workers:
            authenticator.close()
        directory.close()
        failures.close()

    asyncio.run(scenario())

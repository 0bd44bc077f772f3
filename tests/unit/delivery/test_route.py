"""Who gets the mail of an address, and who may send as it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.core.address import Address
from pillarbox.delivery import aliases
from pillarbox.delivery.aliases import Target
from pillarbox.delivery.route import (
    ALIAS_LOOP,
    BAD_DOMAIN,
    NO_DOMAINS,
    NO_POSTMASTER,
    Destination,
    owns,
    resolve,
)
from pillarbox.smtp.reply import MAILBOX_UNKNOWN, RELAY_DENIED, Reply
from pillarbox.store.directory import Directory

HOSTNAME = "mail.example.test"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory(tmp_path / "directory.db", clock=lambda: 1)
    directory.add_domain("example.test")
    directory.add_domain("other.test")
    for name in ("bob@example.test", "alice@example.test", "carol@other.test"):
        directory.add_account(name, "", "")
    yield directory
    directory.close()


def route(directory: Directory, address: str, *, relay: bool = False):
    local, _, domain = address.rpartition("@")
    found = resolve(directory, Address(local, domain), HOSTNAME, relay=relay)
    if isinstance(found, Destination):
        return [target.address for target in found.targets] + found.elsewhere
    return found


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("alice@example.test", ["alice@example.test"]),
        ("ALICE@example.test", ["alice@example.test"]),
        ("alice+lists@example.test", ["alice+lists@example.test"]),
        ("alice+a+b@example.test", ["alice+a+b@example.test"]),
        ("sales@example.test", ["bob@example.test"]),
        ("sales+spring@example.test", ["bob@example.test"]),
        ("all@example.test", ["alice@example.test", "carol@other.test", "bob@example.test"]),
        ("alice+exact@example.test", ["bob@example.test"]),
    ],
)
def test_accounts_come_before_aliases_and_both_before_the_address_without_tag(
    directory: Directory, address: str, expected: list[str]
) -> None:
    for alias, target in (
        ("sales@example.test", "bob@example.test"),
        ("all@example.test", "sales@example.test"),
        ("all@example.test", "alice@example.test"),
        ("all@example.test", "carol@other.test"),
        ("alice+exact@example.test", "bob@example.test"),
    ):
        directory.add_alias(alias, target)
    assert route(directory, address) == expected


def test_a_tag_keeps_the_account_of_its_address(directory: Directory) -> None:
    found = resolve(directory, Address("alice+x", "example.test"), HOSTNAME, relay=False)
    account = directory.account("alice@example.test")
    assert account is not None
    assert found == Destination([Target(account.id, "alice+x@example.test")], [])


@pytest.mark.parametrize("local", ["nobody", "+alice", "nobody+alice", "a b", 'quo"ted', "a@b"])
def test_unknown_local_parts_are_unknown(directory: Directory, local: str) -> None:
    assert (
        resolve(directory, Address(local, "example.test"), HOSTNAME, relay=False) is MAILBOX_UNKNOWN
    )


def test_a_catch_all_takes_what_nobody_has(directory: Directory) -> None:
    directory.add_alias("@example.test", "carol@other.test")
    directory.add_alias("@other.test", "bob@example.test")
    assert route(directory, "nobody@example.test") == ["carol@other.test"]
    assert route(directory, "alice@example.test") == ["alice@example.test"]
    assert route(directory, "alice+x@example.test") == ["alice+x@example.test"]
    assert route(directory, "x@other.test") == ["bob@example.test"]


RELAYS = [
    Address("alice", "elsewhere.test"),
    Address("alice", "sub.example.test"),
    Address("alice", "example.test.evil.test"),
    Address("alice", "[127.0.0.1]"),
    Address("alice", "[ipv6:::1]"),
    Address("alice@example.test", "elsewhere.test"),
    Address("alice", "a" * 63 + "." + ".".join(["b" * 63] * 3)),
    Address("alice", "-bad-.test"),
]


@pytest.mark.parametrize("address", RELAYS, ids=str)
def test_other_domains_are_never_ours(directory: Directory, address: Address) -> None:
    directory.add_alias("@example.test", "bob@example.test")
    assert resolve(directory, address, HOSTNAME, relay=False) is RELAY_DENIED


@pytest.mark.parametrize("local", ["user%elsewhere.test", "user@elsewhere.test", "elsewhere!user"])
def test_no_local_part_means_another_host(directory: Directory, local: str) -> None:
    assert (
        resolve(directory, Address(local, "example.test"), HOSTNAME, relay=False) is MAILBOX_UNKNOWN
    )
    directory.add_alias("@example.test", "bob@example.test")
    assert route(directory, f"{local}@example.test") == ["bob@example.test"]


def test_alias_loops_are_found(directory: Directory) -> None:
    directory.add_alias("a@example.test", "b@example.test")
    directory.add_alias("b@example.test", "a@example.test")
    assert route(directory, "a@example.test") is ALIAS_LOOP
    directory.add_alias("b@example.test", "alice@example.test")
    assert route(directory, "a@example.test") == ["alice@example.test"]


def test_a_catch_all_that_catches_itself_is_a_loop(directory: Directory) -> None:
    directory.add_alias("@example.test", "missing@example.test")
    assert route(directory, "x@example.test") is ALIAS_LOOP


def test_each_account_gets_one_copy(directory: Directory) -> None:
    directory.add_alias("twice@example.test", "alice@example.test")
    directory.add_alias("twice@example.test", "alice+x@example.test")
    assert route(directory, "twice@example.test") == ["alice+x@example.test"]


def test_aliases_may_not_be_endlessly_deep(directory: Directory) -> None:
    for number in range(aliases.DEEPEST + 2):
        directory.add_alias(f"a{number}@example.test", f"a{number + 1}@example.test")
    directory.add_alias("a0@example.test", "alice@example.test")
    assert route(directory, "a0@example.test") is ALIAS_LOOP


def test_aliases_may_not_lead_to_endlessly_many(directory: Directory, monkeypatch) -> None:
    monkeypatch.setattr(aliases, "MOST_ADDRESSES", 4)
    for name in ("bob@example.test", "carol@other.test", "alice@example.test"):
        directory.add_alias("wide@example.test", name)
    assert len(route(directory, "wide@example.test")) == 3
    directory.add_alias("w@example.test", "wide@example.test")
    assert route(directory, "w@example.test") is ALIAS_LOOP


def test_an_alias_may_lead_to_other_hosts_for_strangers_too(directory: Directory) -> None:
    directory.add_alias("mixed@example.test", "alice@example.test")
    directory.add_alias("mixed@example.test", "friend@elsewhere.test")
    expected = ["alice@example.test", "friend@elsewhere.test"]
    assert route(directory, "mixed@example.test") == expected


def test_those_who_may_relay_reach_other_hosts_and_the_case_of_the_local_part_stays(
    directory: Directory,
) -> None:
    assert route(directory, "Friend@Elsewhere.TEST", relay=True) == ["Friend@elsewhere.test"]
    assert route(directory, "alice@example.test", relay=True) == ["alice@example.test"]
    assert route(directory, "nobody@example.test", relay=True) is MAILBOX_UNKNOWN
    assert route(directory, "x@-bad-.test", relay=True) is BAD_DOMAIN


def test_an_alias_that_lost_a_target_serves_the_others(directory: Directory) -> None:
    directory.add_alias("team@example.test", "gone@example.test")
    assert route(directory, "team@example.test") is MAILBOX_UNKNOWN
    directory.add_alias("team@example.test", "bob@example.test")
    assert route(directory, "team@example.test") == ["bob@example.test"]


@pytest.mark.parametrize("local", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_is_always_accepted(directory: Directory, local: str) -> None:
    assert route(directory, f"{local}@example.test") == ["bob@example.test"]  # the oldest account
    assert route(directory, f"{local}@other.test") == ["carol@other.test"]
    assert route(directory, f"{local}@") == ["bob@example.test"]
    assert route(directory, f"{local}@elsewhere.test") is RELAY_DENIED
    directory.add_domain("empty.test")
    assert route(directory, f"{local}@empty.test") == ["bob@example.test"]
    directory.add_alias("postmaster@example.test", "alice@example.test")
    assert route(directory, f"{local}@example.test") == ["alice@example.test"]
    assert route(directory, f"{local}@") == ["alice@example.test"]


def test_a_postmaster_whose_alias_leads_nowhere_is_accepted(directory: Directory) -> None:
    directory.add_alias("postmaster@example.test", "gone@example.test")
    assert route(directory, "postmaster@example.test") == ["bob@example.test"]


def test_postmaster_without_domain_is_that_of_the_first_domain_if_the_host_is_elsewhere(
    directory: Directory,
) -> None:
    directory.add_alias("postmaster@example.test", "alice@example.test")
    found = resolve(directory, Address("postmaster", ""), "mx.hosting.test", relay=False)
    assert isinstance(found, Destination)
    assert found.targets[0].address == "alice@example.test"


def test_without_any_account_postmaster_has_to_wait(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "directory.db", clock=lambda: 1)
    assert resolve(directory, Address("postmaster", ""), HOSTNAME, relay=False) is NO_POSTMASTER
    directory.add_domain("example.test")
    assert (
        resolve(directory, Address("postmaster", "example.test"), HOSTNAME, relay=False)
        is NO_POSTMASTER
    )
    directory.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("alice@example.test", True),
        ("Alice@EXAMPLE.test", True),
        ("alice+news@example.test", True),
        ("team@example.test", True),
        ("team+x@example.test", True),
        ("mixed@example.test", True),
        ("any@other.test", True),
        ("bob@example.test", False),
        ("carol@other.test", False),
        ("nobody@example.test", False),
        ("alice@elsewhere.test", False),
        ("alice@", False),
        ("alice", False),
        ("", False),
        ("a b@example.test", False),
        ("alice@example.test@elsewhere.test", False),
    ],
)
def test_an_account_may_send_as_the_addresses_whose_mail_it_gets(
    directory: Directory, address: str, expected: bool
) -> None:
    directory.add_alias("team@example.test", "alice@example.test")
    directory.add_alias("team@example.test", "bob@example.test")
    directory.add_alias("mixed@example.test", "alice@example.test")
    directory.add_alias("mixed@example.test", "x@elsewhere.test")
    directory.add_alias("@other.test", "alice@example.test")
    alice = directory.account("alice@example.test")
    assert alice is not None
    assert owns(directory, alice, address) is expected


def test_an_account_may_send_as_its_identities(directory: Directory) -> None:
    directory.add_identity("alice@example.test", "Sales@Far.example")
    directory.add_identity("alice@example.test", "@all.example")
    alice, bob = directory.account("alice@example.test"), directory.account("bob@example.test")
    assert alice is not None
    assert bob is not None
    for address in ("sales@far.example", "any@all.example", "any+tag@ALL.example"):
        assert owns(directory, alice, address)
        assert not owns(directory, bob, address)
    for address in ("other@far.example", "any@sub.all.example", "@all.example"):
        assert not owns(directory, alice, address)
    directory.remove_identity("alice@example.test", "@all.example")
    assert not owns(directory, alice, "any@all.example")


def test_postmaster_of_the_host_itself_is_the_home_domains(directory: Directory) -> None:
    found = resolve(
        directory, Address("Postmaster", "MX.example.test"), "mx.example.test", relay=False
    )
    assert isinstance(found, Destination)
    assert len(found.targets) == 1
    assert isinstance(
        resolve(directory, Address("bob", "mx.example.test"), "mx.example.test", relay=False), Reply
    )


def test_where_no_domain_is_set_up_strangers_are_put_off(tmp_path: Path) -> None:
    """Their mail would bounce for ever while a disk is not mounted; who may relay is served all the same."""
    directory = Directory(tmp_path / "empty.db", clock=lambda: 1)
    assert route(directory, "alice@example.test") is NO_DOMAINS
    assert route(directory, "alice@example.test", relay=True) == ["alice@example.test"]
    directory.add_domain("other.test")
    assert route(directory, "alice@example.test") is RELAY_DENIED
    directory.close()

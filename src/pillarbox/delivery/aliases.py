"""Who gets the mail of an address: accounts, aliases, tags (`alice+tag`) and catch-alls.

Pure reading of the directory. Addresses are canonical (`store.directory`): lower case, so local parts compare without
case. The order of an address: its account, its alias, both again without the tag, the catch-all of its domain.
"""

from dataclasses import dataclass, field

from pillarbox.store.directory import Directory

TAG_SEPARATOR = "+"

MOST_ADDRESSES = 1000
"""Addresses that one recipient may lead to on the way to its accounts."""
DEEPEST = 20
"""Aliases of aliases of aliases."""


@dataclass(slots=True)
class Target:
    """One account that gets a copy."""

    account: int
    address: str
    """What Delivered-To says: the canonical address that was found to be the account's, with its tag."""


@dataclass(slots=True)
class Expansion:
    """Where an address leads."""

    targets: list[Target] = field(default_factory=list)
    """One for each account, in the order found."""
    elsewhere: list[str] = field(default_factory=list)
    """Addresses whose domain is not ours."""
    unknown: list[str] = field(default_factory=list)
    """Addresses of our domains that nobody has."""
    how: str = ""
    """What the address was found by, in words, if not by an account's own address or a tag."""
    endless: bool = False
    """Given up: over MOST_ADDRESSES or DEEPEST."""


def expand(directory: Directory, address: str) -> Expansion:
    """Follow a canonical address to its accounts. Each address is looked at once, so a loop just ends.

    Raises Unavailable.
    """
    expansion = Expansion()
    seen = {address}
    level = [address]
    for _ in range(DEEPEST + 1):
        next_level: list[str] = []
        for each in level:
            domain = each.rpartition("@")[2]
            if not directory.is_local(domain):
                expansion.elsewhere.append(each)  # accounts and aliases are of our domains
                continue
            found, how = _look_up(directory, each), "an alias"
            if isinstance(found, Target):
                if all(found.account != target.account for target in expansion.targets):
                    expansion.targets.append(found)
                continue
            if not found:
                found, how = directory.alias_targets(f"@{domain}"), f"the catch-all @{domain}"
            if not found:
                expansion.unknown.append(each)
                continue
            expansion.how = expansion.how or how
            next_level += [target for target in found if target not in seen]
            seen.update(found)
        if not next_level:
            return expansion
        if len(seen) > MOST_ADDRESSES:
            break
        level = next_level
    expansion.endless = True
    return expansion


def _look_up(directory: Directory, address: str) -> Target | list[str]:
    """The account, or the targets of the alias; an empty list where there is neither, and the catch-all counts."""
    account = directory.recipient(address)
    if account is not None:
        return Target(account, address)
    if targets := directory.alias_targets(address):
        return targets
    local, _, domain = address.rpartition("@")
    name, tagged, _ = local.partition(TAG_SEPARATOR)
    if tagged and name:
        account = directory.recipient(f"{name}@{domain}")
        if account is not None:
            return Target(account, address)
        if targets := directory.alias_targets(f"{name}@{domain}"):
            return targets
    return []

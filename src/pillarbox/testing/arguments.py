"""What a test gives is looked at before it counts, for a wrong value that changes nothing lets a test pass that proves
nothing. All functions raise TypeError for a value of another kind, ValueError for one that cannot be, and name it."""

from collections.abc import Mapping

from pillarbox.core.address import canonical_host
from pillarbox.core.errors import Refused
from pillarbox.store.directory import canonical_address


def ensure_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: give a text")


def ensure_number(name: str, value: object, least: float, *, whole: bool = False) -> None:
    """At least so much."""
    kinds = (int,) if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: give a {'whole ' if whole else ''}number")
    if not value >= least:  # what is no number at all (NaN) is not either
        raise ValueError(f"{name}={value!r}: it must be {least:g} or more")


def ensure_address(name: str, value: object) -> str:
    """The address as accounts have it: lower case, its domain in A-labels."""
    ensure_text(name, value)
    assert isinstance(value, str)
    try:
        return canonical_address(value)
    except Refused as refused:
        raise ValueError(f"{name}: {refused.text}") from None


def ensure_pattern(name: str, value: object, *, is_empty_allowed: bool = False) -> None:
    """An address, "postmaster", or a pattern like "*@example.test"."""
    ensure_text(name, value)
    assert isinstance(value, str)
    can_be = any(character in value for character in "@*?[") or value.lower() == "postmaster"
    if not can_be and (value or not is_empty_allowed):
        raise ValueError(
            f'{name}={value!r}: no address is like that; give one, or a pattern like "*@example.test"'
        )


def ensure_accounts(value: object) -> None:
    """Passwords by address."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f'accounts={value!r}: give passwords by address, like {{"alice@example.test": "secret"}}'
        )
    for address, password in value.items():
        ensure_address("accounts", address)
        ensure_text(f"the password of {address}", password)


def ensure_hostname(value: object) -> None:
    ensure_text("hostname", value)
    try:
        canonical_host(str(value))
    except ValueError:
        raise ValueError(
            f'hostname={value!r}: give a host name, like "mail.example.test"'
        ) from None


def ensure_separator(value: object) -> None:
    if value not in ("/", "."):
        raise ValueError(f'hierarchy_separator={value!r}: it can be "/" or "."')

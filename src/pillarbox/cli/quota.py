"""What `account quota` and `domain quota` share: how limits are written and shown."""

import click

from pillarbox.cli.common import show_table
from pillarbox.core.size import format_size, parse_size
from pillarbox.store.quota import Usage

Limit = int | str | None
"""A number, "default", or None where the option is not there."""


def storage(_context: click.Context, option: click.Parameter, value: str | None) -> Limit:
    """For --storage."""
    return _limit(option, value, is_size=True)


def messages(_context: click.Context, option: click.Parameter, value: str | None) -> Limit:
    """For --messages."""
    return _limit(option, value, is_size=False)


def _limit(option: click.Parameter, value: str | None, *, is_size: bool) -> Limit:
    if value is None or value == "default":
        return value
    try:
        number = parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error
    if not is_size and not (value.isascii() and value.isdigit()):
        raise click.BadParameter("must be a number (0: no limit)", param=option)
    if 0 < number < 1024 and is_size:
        raise click.BadParameter("must be at least 1K, or 0 for no limit", param=option)
    return number


def changed(old: int | None, wanted: Limit) -> int | None:
    """The new value of a limit."""
    if wanted is None:
        return old
    return wanted if isinstance(wanted, int) else None


def show(limits: list[tuple[str, int, str]], used: Usage | None, *, as_json: bool) -> None:
    """`limits` are resource ("storage" or "messages"), limit (0: none) and who set it, else "default"."""
    rows = []
    for resource, limit, set_by in limits:
        is_size = resource == "storage"
        keeps = None if used is None else used.octets if is_size else used.messages
        if as_json:
            row: tuple[object, ...] = (resource, limit or None, set_by)
        else:
            shown = format_size(limit) if is_size else str(limit)
            row = (resource, shown if limit else "none", set_by)
            keeps_shown = None if keeps is None else format_size(keeps) if is_size else str(keeps)
        if keeps is not None:
            row = (*row, keeps if as_json else keeps_shown)
        rows.append(row)
    columns = (
        ("resource", "limit", "set_by") if used is None else ("resource", "limit", "set_by", "used")
    )
    show_table(columns, rows, as_json=as_json)

"""The options of all commands, --config and --json. Imports little, for the start of a server waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from pillarbox.config.load import find_config, load_config
from pillarbox.config.schema import Config

Function = TypeVar("Function", bound=Callable[..., Any])

_PATH, _CONFIG = "pillarbox.config_path", "pillarbox.config"
"""What the contexts of one command line know together."""


def _remember(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.find_root().obj = value


def config_option(function: Function) -> Function:
    """--config, before or after the command and within it."""
    return click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help="The configuration file.",
    )(function)


def json_option(function: Function) -> Function:
    """--json, the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


class Hinting(click.Command):
    """A command without arguments, which says of one that is given to which option it belongs."""

    allow_extra_args = True

    def __init__(self, *values: Any, option_for: Callable[[str], str], **named: Any) -> None:
        """`option_for` says which option an argument fits, "" for none."""
        super().__init__(*values, **named)
        self._option_for = option_for

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in super().parse_args(ctx, args)[:1]:
            option = self._option_for(argument)
            hint = f" Did you mean {option} {argument}?" if option else ""
            ctx.fail(f"Got unexpected extra argument ({argument}).{hint}")
        return []


def read_config(*, as_server: bool = True, needs_files: bool = False) -> Config:
    """The configuration that the command line names; root goes on `as_server`, as the user that is named there, so that
    no file of the data folder becomes root's. It is read once, for that user may not be able to. Raises Refused, also
    for the files that it names, where the command needs them, and `as_server` for a data folder that is not ours."""
    known = click.get_current_context().meta
    if _CONFIG not in known:
        known[_CONFIG] = load_config(
            config_path(), needs_files=needs_files, acting=_acting_as_server
        )
    config: Config = known[_CONFIG]
    if as_server:
        from pillarbox.app.data_folder import ensure_ours

        ensure_ours(config)
        act_as_server(config)
    return config


def config_path() -> Path:
    """Of the configuration that the command line names, looked for once. Raises Refused."""
    known = click.get_current_context().meta
    if _PATH not in known:
        known[_PATH] = find_config(click.get_current_context().find_root().obj)
    path: Path = known[_PATH]
    return path


@contextmanager
def _acting_as_server(config: Config) -> Iterator[None]:
    """Raises Refused."""
    from pillarbox.app import rights

    with rights.acting_as(rights.server_user(config.user)):
        yield


def act_as_server(config: Config) -> None:
    """Files belong to the server's user from now on. Raises Refused."""
    from pillarbox.app import rights

    user = rights.server_user(config.user)
    if user is not None:
        rights.act_as(user)

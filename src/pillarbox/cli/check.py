"""pillarbox check"""

import json
import sys

import click
from rich.console import Console
from rich.progress import Progress

from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.errors import Refused
from pillarbox.store.check import check_store


@click.command(epilog="Example: pillarbox check")
@json_option
@config_option
def check(as_json: bool) -> None:
    """Read the whole store and say what is wrong. Changes nothing; the server may run.

    Exit code 1 when something is wrong.
    """
    config = read_config()
    if not (config.data_path / "accounts").is_dir():
        raise Refused(f"no server has run in {config.data_path} yet: there is nothing to check")
    problems: list[str] = []
    with Progress(
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("accounts", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        for problem in check_store(config.data_path, show):
            problems.append(problem)
            if not as_json:
                click.echo(problem)
    if as_json:
        click.echo(json.dumps({"problems": problems}, indent=2, ensure_ascii=False))
    if problems:
        count = len(problems)
        raise Refused("1 problem found" if count == 1 else f"{count} problems found")
    if not as_json:
        click.echo("The store is in order.")

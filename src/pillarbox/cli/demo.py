"""pillarbox demo"""

import click

from pillarbox.app.demo import run_demo
from pillarbox.app.log import log_to_stderr


@click.command(epilog="Example: pillarbox demo")
def demo() -> int:
    """Start a mail server to play with, without any configuration.

    It has the domain example.test and the accounts alice and bob, password "pillarbox", and listens
    on this machine only. Its mail is kept in ./pillarbox-demo. Ctrl-C stops it.
    """
    log_to_stderr()
    return run_demo()

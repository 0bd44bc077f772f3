"""pillarbox serve"""

import os

import click

from pillarbox.app import life
from pillarbox.app.footing import take_footing
from pillarbox.app.log import log_to_stderr
from pillarbox.app.workplace import Workplace
from pillarbox.cli.options import config_option, read_config
from pillarbox.config.load import MOST_WORKERS
from pillarbox.store.place import Place


@click.command(
    short_help="Run the mail server.",
    epilog="Example: pillarbox serve --config /etc/pillarbox/pillarbox.toml",
)
@config_option
def serve() -> int:
    """Run the mail server in the foreground until SIGTERM or Ctrl-C.

    The log goes to stderr. A stop finishes the commands in hand, for at most 30 seconds; a second
    Ctrl-C does not wait. Exit code 1: the server could not start, or its disk failed.
    """
    config = read_config(as_server=False, needs_files=True)
    log_to_stderr(config.log_format)
    workers = config.workers or min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    footing = take_footing(config, workers)
    life.warn_of_root(config)
    if workers > 1:
        from pillarbox.app.supervisor import supervise

        return supervise(config, workers, footing)
    from pillarbox.app.run import announce_in_log, run

    place = Place(lock=footing.lock)
    workplace = Workplace(
        place,
        sockets=footing.sockets[0],
        read=footing.read,
        manager=footing.manager,
        challenge=footing.challenge,
        metrics=footing.metrics,
    )
    return run(config, announce_in_log, workplace=workplace)

"""What commands did, told to the trace (`explain`), in a file of their own."""

import apsw
import click

from pillarbox.config.schema import Config
from pillarbox.trace.file import COMMANDS, DAY_US, TraceFile, trace_path
from pillarbox.trace.recorder import Recorder

OCTETS_OF_COMMANDS = 16 << 20
"""Of the file at most."""


def tell_trace(config: Config, recorder: Recorder) -> None:
    """Write what was recorded. That it cannot be told is said, and changes nothing."""
    lines, _ = recorder.take()
    if not lines:
        return
    path = trace_path(config.data_path, COMMANDS)
    keep_us = config.explain.keep_days * DAY_US
    file = TraceFile(path, keep_us=keep_us, most_octets=OCTETS_OF_COMMANDS)
    try:
        file.write(lines, recorder.now())
    except (apsw.Error, OSError) as failure:
        click.echo(f"pillarbox: explain will not tell of this: {path}: {failure}", err=True)
    finally:
        file.close()

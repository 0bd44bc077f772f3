"""pillarbox status"""

import time
from pathlib import Path
from typing import Any

import click

from pillarbox.app.status import ask
from pillarbox.cli.common import duration, show_table
from pillarbox.cli.options import config_option, json_option, read_config
from pillarbox.core.words import counted
from pillarbox.store.lacking import find_waiting
from pillarbox.store.queue_figures import QueueReader


@click.command(
    short_help="What the running server does.", epilog="Example: pillarbox status --json"
)
@config_option
@json_option
def status(as_json: bool) -> None:
    """What the running server does: its workers, their connections, the queue, and how much mail
    passes.
    """
    config = read_config()
    report = ask(config.data_path)
    reader = QueueReader(config.data_path / "queue.db")
    try:
        queue = reader.read()
    finally:
        reader.close()
    report["queue"] = {
        "messages": queue.messages,
        "recipients": queue.recipients,
        "local_deliveries": queue.local_deliveries,
        "for_mail_files": _wait_for_files(config.data_path),
    }
    if as_json:
        import json

        click.echo(json.dumps(report, indent=2))
    else:
        show_report(report)


def _wait_for_files(data_dir: Path) -> int | None:
    """Messages in the journal whose mail file takes none; None: that cannot be known."""
    try:
        waiting = find_waiting(data_dir, time.time())
    except OSError:
        return None
    return sum(len(each.queue_ids) for each in waiting.values())


def show_report(report: dict[str, Any]) -> None:
    """For people."""
    now = time.time()
    up = duration(now - report["started"])
    end = ", is stopping" if report["stopping"] else ""
    click.echo(f"Pillarbox {report['version']}, process {report['pid']}, runs for {up}{end}.")
    queue, minute, total = report["queue"], report["per_minute"], report["totals"]
    click.echo(
        f"Queue: {counted(queue['messages'], 'message')} for"
        f" {counted(queue['recipients'], 'recipient')} at other hosts; waiting for mailboxes here:"
        f" {queue['local_deliveries'] + (queue['for_mail_files'] or 0)}."
    )
    click.echo(
        f"In the last minute: {counted(minute['accepted'], 'connection')},"
        f" {counted(minute['stored'], 'message')} stored,"
        f" {counted(minute['sent'], 'recipient')} at other hosts reached"
        f" ({total['accepted']}, {total['stored']} and {total['sent']} since the start)."
    )
    workers = report["workers"]
    services = [
        name
        for name in workers[0]["connections"]
        if any(worker["connections"][name] for worker in workers)
    ]
    rows = [
        (
            worker["worker"],
            worker["pid"],
            fault_of(worker) or duration(now - worker["started"]),
            worker["restarts"],
            *(worker["connections"][name] for name in services),
        )
        for worker in workers
    ]
    show_table(["worker", "process", "runs_for", "restarts", *services], rows, as_json=False)


def fault_of(worker: dict[str, Any]) -> str:
    """What keeps a worker of a report from serving; "" where nothing does."""
    if worker["state"] != "running":
        return str(worker["state"])
    return "" if worker["serves"] else "does not answer"

"""Findings, for people and for programs. People see what is the same of many listeners once, with all of these;
programs get an object for each check and subject."""

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pillarbox.cli.doctor.finding import Finding, Level
from pillarbox.core.words import counted

T = TypeVar("T")

_SYMBOLS = {
    Level.OK: ("✔", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.ERROR: ("✘", "bold red"),
}
_ORDER = list(Level)

OF_LISTENERS = ("port", "tls")
"""Checks whose subjects are listeners: "imaps 127.0.0.1:993", perhaps with a name that is asked for behind."""

Before = Sequence[Level | None]
"""Of each finding, what it was at the last look."""


def show_json(findings: Sequence[Finding], before: Before, last: int | None) -> None:
    """`last` is when the last run was, in epoch seconds."""
    rows = [
        {
            "check": each.check,
            "subject": each.subject,
            "level": each.level,
            "found": each.found,
            "advice": each.advice,
            "before": was,
        }
        for each, was in zip(findings, before, strict=True)
    ]
    click.echo(json.dumps({"last_run": last, "findings": rows}, indent=2, ensure_ascii=False))


def show_findings(findings: Sequence[Finding], before: Before, last: int | None) -> None:
    """Lines, on a terminal a table; then what changed since the last run."""
    shown = gather(
        (each.check, each.subject, (each.level, each.found, each.advice)) for each in findings
    )
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, show_header=False)
        for column in ("", "check", "found"):
            table.add_column(column, overflow="fold", no_wrap=column != "found")
        for check, subject, (level, found, advice) in shown:
            symbol, style = _SYMBOLS[level]
            text = Text(f"{subject}: {found}")
            if advice:
                text.append(f"\n→ {advice}", style="bold")
            table.add_row(Text(symbol, style=style), check, text)
        console.print(table)
    else:
        for check, subject, (level, found, advice) in shown:
            click.echo(f"{level:7}  {check}  {subject}: {found}")
            if advice:
                click.echo(f"         do: {advice}")
    levels = [level for _, _, (level, _, _) in shown]
    errors, warnings, fine = map(levels.count, reversed(_ORDER))
    click.echo(f"\n{counted(errors, 'error')}, {counted(warnings, 'warning')}, {fine} fine.")
    if last is not None:
        _show_changes(findings, before, last)


def _show_changes(findings: Sequence[Finding], before: Before, last: int) -> None:
    changed = gather(
        (each.check, each.subject, (was, each.level))
        for each, was in zip(findings, before, strict=True)
        if was is not each.level and (was or each.level is not Level.OK)
    )
    when = datetime.datetime.fromtimestamp(last, datetime.UTC)
    since = f"Since the last run ({when:%Y-%m-%d %H:%M} UTC)"
    if not changed:
        click.echo(f"{since}: no change.")
        return
    click.echo(f"{since}, changed:")
    for check, subject, (was, level) in changed:
        click.echo(f"  {check} {subject}: {was or 'not looked at'} before, {level} now")


def gather(found: Iterable[tuple[str, str, T]]) -> list[tuple[str, str, T]]:
    """What is the same (check and value) of several listeners becomes one, at the place of the first, whose subject
    names them all."""
    groups: dict[tuple[str, T, tuple[str, ...]], list[str]] = {}
    for check, subject, value in found:
        own = subject.split(" ", 2)[2:] if check in OF_LISTENERS else [subject]
        groups.setdefault((check, value, tuple(own)), []).append(subject)
    return [
        (check, subjects[0] if len(subjects) == 1 else _joined(subjects), value)
        for (check, value, _), subjects in groups.items()
    ]


def _joined(subjects: list[str]) -> str:
    """Example: ["imap 0.0.0.0:143", "imap [::]:143", "imaps [::]:993"] -> "imap 143 at 0.0.0.0; imap 143, imaps 993 at
    [::]"."""
    by_host: dict[str, list[str]] = {}
    name = ""
    for subject in subjects:
        service, address, *names = subject.split(" ", 2)
        host, port = address.rsplit(":", 1)
        by_host.setdefault(host, []).append(f"{service} {port}")
        name = f" ({names[0]})" if names else ""
    by_ports: dict[str, list[str]] = {}
    for host, ports in by_host.items():
        by_ports.setdefault(", ".join(ports), []).append(host)
    return (
        "; ".join(f"{ports} at {' and '.join(hosts)}" for ports, hosts in by_ports.items()) + name
    )

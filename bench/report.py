"""What the benchmarks print, and what they put into RESULTS.md."""

import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.peer import SETTINGS

CORES = os.cpu_count() or 1

RESULTS = Path(__file__).with_name("RESULTS.md")

PEER_SETTINGS = (
    "Postfix: "
    + ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    + "; Dovecot: logins in performance mode, 10 LMTP processes"
)

_HEAD = f"""# Results

Made by `.venv/bin/python -m bench ... --save`, never by hand. Each section is one run on one machine, both servers
in turn, driven by the same load; CPU is that of the servers alone, counted until their background work is done.
"Of the machine": all that the machine did in that time for anybody, the load taken off: the kernel's threads count too.
"Load CPU share": the part of all CPU of the machine in that time that the load generator itself took;
"of both": of its own CPU and that of the servers together.
A bar says how many times better than the best peer a row should be; "equal" means within a tenth, or a millisecond.

{PEER_SETTINGS}.
"""

console = Console(width=140)


@dataclass(slots=True)
class Row:
    """What one server did."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_peer: bool = False


@dataclass(slots=True, frozen=True)
class Bar:
    """How good a figure shall be: `times` better than the peer's (1: equal; 0: it is only told), and `at_most` in any
    case."""

    times: float = 1
    more_is_better: bool = False
    at_most: float | None = None

    def is_met(self, ours: float, theirs: float | None) -> bool:
        if self.at_most is not None and ours > self.at_most:
            return False
        if theirs is None or self.times == 0:
            return True
        if self.more_is_better:
            return ours >= theirs * self.times * (0.9 if self.times == 1 else 1)
        if self.times == 1:
            return ours <= max(theirs * 1.1, theirs + 1)
        return ours * self.times <= theirs

    def wanted(self, *, beside_peers: bool) -> str:
        """As it stands in a table; where no peer ran, without what is said of the best of them."""
        wanted = []
        if self.times and beside_peers:
            within = f"within {1 / self.times:g} x" if self.times < 1 else f"{self.times:.3g} x"
            wanted.append("equal" if self.times == 1 else within)
        if self.at_most is not None:
            wanted.append(f"at most {self.at_most:g}")
        return ", ".join(wanted)


MORE = Bar(0, more_is_better=True)
LESS = Bar(0)


def medians(rows: Sequence[Row]) -> Row:
    """Of one server's rounds; all notes."""
    first = rows[0]
    figures = {name: median(row.figures[name] for row in rows) for name in first.figures}
    notes = sorted({note for row in rows for note in row.notes})
    return Row(first.name, figures, notes, first.is_peer)


def report(title: str, rows: Sequence[Row], bars: Mapping[str, Bar], *, save: bool) -> None:
    """A line for each figure, with the ratio of the first row of ours to the best peer. With `save`, the table is put
    into RESULTS.md too, in place of the one of the same title."""
    peers = [row for row in rows if row.is_peer]
    mine = next(row for row in rows if not row.is_peer).figures
    lines = []
    for name, bar in bars.items():
        line = [name, *(_number(row.figures.get(name)) for row in rows)]
        pick = max if bar.more_is_better else min
        best = pick((row.figures[name] for row in peers if name in row.figures), default=None)
        if peers:
            line.append(_ratio(bar, mine[name], best))
        wanted = bar.wanted(beside_peers=bool(peers))
        if wanted and (best is not None or bar.at_most is not None):
            wanted += ": met" if bar.is_met(mine[name], best) else ": missed"
        line.append(wanted)
        lines.append(line)
    head = ["row", *(row.name for row in rows), *(["better by"] if peers else []), "bar"]
    if not any(line[-1] for line in lines):  # without a peer most bars say nothing
        head.pop()
        lines = [line[:-1] for line in lines]
    show(title, head, lines, rows, save=save)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"


def _ratio(bar: Bar, mine: float, best: float | None) -> str:
    if best is None or min(mine, best) < 1e-3:
        return ""
    return f"{mine / best if bar.more_is_better else best / mine:.2f} x"


def show(
    title: str, head: list[str], lines: list[list[str]], rows: Sequence[Row], *, save: bool
) -> None:
    """Print a table and what is to be said of its rows; with `save`, put both into RESULTS.md."""
    table = Table(head[0], title=title)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    notes = [f"{row.name}: {note}" for row in rows for note in row.notes]
    for note in notes:
        console.print(note)
    if save:
        _save(title, head, lines, notes)


def _save(title: str, head: list[str], lines: list[list[str]], notes: list[str]) -> None:
    old = RESULTS.read_text("utf-8") if RESULTS.exists() else f"{_HEAD}\n"
    sections = re.split(r"(?m)^(?=## )", old)
    sections[0] = f"{_HEAD}\n"
    table = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in table)
    text = f"## {title}\n\n{machine_line()}\n\n{rows}\n\n" + "".join(
        f"- {note}\n" for note in notes
    )
    kept = [section for section in sections if not _is_older(section, title, head)]
    RESULTS.write_text("".join(kept).rstrip() + "\n\n" + text.rstrip() + "\n", "utf-8")


def _is_older(section: str, title: str, head: list[str]) -> bool:
    """Whether a section tells of the same work of the same servers, in however many rounds."""
    heading = section.removeprefix("## ").partition("\n")[0]
    rounds = ", medians of"
    is_same = heading.partition(rounds)[0] == title.partition(rounds)[0]
    return is_same and f"\n| {' | '.join(head)} |\n" in section


def machine_line() -> str:
    """Date, machine and versions."""
    return (
        f"{time.strftime('%Y-%m-%d')}; {platform.machine()}, {CORES} cores shared with the load,"
        f" Python {platform.python_version()}, Linux {platform.release()}"
    )

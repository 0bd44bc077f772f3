"""Checks docs/rfc/index.tsv: which RFCs there are, how far each is implemented, where, and which tests show it.

    python tools/rfcs.py

Every RFC that the code cites has a row. `where` and `tests` hold paths below src/pillarbox and tests, parted by
spaces. A row "yes" or "partial" names code that cites the RFC; "yes" names tests, too. Exit code 1 tells what is wrong.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "docs" / "rfc" / "index.tsv"
CODE = ROOT / "src" / "pillarbox"
TESTS = ROOT / "tests"

COLUMNS = ["rfc", "title", "status", "where", "tests"]
STATUSES = {
    "yes": "all that concerns a server",
    "partial": "what the code cites",
    "no": "known, and not implemented or only referred to",
}

_CITATION = re.compile(r"RFCs? (\d{3,5}(?:(?:,| and| to| or|,? RFC) \d{4,5}\b)*)")


@dataclass(slots=True)
class Row:
    """One RFC."""

    number: int
    title: str
    status: str
    where: list[str]
    tests: list[str]


def read_index() -> tuple[list[Row], list[str]]:
    """The rows, and what is wrong with their form."""
    rows, problems = [], []
    header, *lines = INDEX.read_text("utf-8").splitlines()
    if header.split("\t") != COLUMNS:
        problems.append(f"the first line must be: {' TAB '.join(COLUMNS)}")
    for line in lines:
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or not cells[0].isdigit() or cells[2] not in STATUSES:
            problems.append(f"not a row with {len(COLUMNS)} columns and a known status: {line}")
            continue
        number, title, status, where, tests = cells
        rows.append(Row(int(number), title, status, where.split(), tests.split()))
    numbers = [row.number for row in rows]
    if numbers != sorted(set(numbers)):
        problems.append("rows must be sorted by number, each RFC once")
    return rows, problems


def citations(path: Path) -> set[int]:
    """The RFCs that a file, or all code below a folder, cites: `RFC 9051 §6.4.8`, `RFC 5321, 1870`."""
    files = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.sql")]
    found: set[int] = set()
    for file in files:
        for citation in _CITATION.findall(file.read_text("utf-8")):
            found.update(int(number) for number in re.findall(r"\d+", citation))
    return found


def find_problems() -> Iterator[str]:
    """One line each."""
    rows, problems = read_index()
    yield from problems
    for number in sorted(citations(CODE) - {row.number for row in rows}):
        yield f"RFC {number} is cited in src/pillarbox and has no row"
    for row in rows:
        yield from (f"RFC {row.number}: {problem}" for problem in _problems_of(row))


def _problems_of(row: Row) -> Iterator[str]:
    if row.status != "no" and not row.where:
        yield "no code is named"
    if row.status == "yes" and not row.tests:
        yield "no tests are named"
    for name in row.where:
        path = CODE / name
        if not path.exists():
            yield f"src/pillarbox/{name} does not exist"
        elif row.number not in citations(path):
            yield f"src/pillarbox/{name} does not cite it"
    for name in row.tests:
        path = TESTS / name
        if not path.is_file() and not any(path.rglob("test_*.py")):
            yield f"tests/{name} has no tests"


def main() -> None:
    """Print the problems; exit code 1 if there are any."""
    problems = list(find_problems())
    for problem in problems:
        print(f"docs/rfc/index.tsv: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""The pages that readers see, and the blocks of code in them.

A block begins with ``` and a language. A line above it may say how it is run, in a comment that readers do not see:

    <!-- not run: REASON -->    a shell block that cannot be run here
    <!-- background -->         it goes on while the rest of the page is run, which begins once it printed what is shown
    <!-- stopped -->            the page's server is stopped before, and started again after it
    <!-- exit: 1 -->            the exit code that it ends with
    <!-- typed: TEXT -->        it has a terminal, at which TEXT is typed (with \\n for the key Enter)

`<!-- server: example.org -->` anywhere gives the page a server, `<!-- settings: /etc/pillarbox/pillarbox.toml -->` only
the name of the configuration, as root's commands would find it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PAGES = sorted(
    [
        *(path for path in (ROOT / "docs").rglob("*.md")),
        *(
            ROOT / name
            for name in ("README.md", "ARCHITECTURE.md", "CONVENTIONS.md", "CHANGELOG.md")
        ),
        ROOT / "bench" / "RESULTS.md",
    ]
)

SHELL = ("sh", "console")
LANGUAGES = (*SHELL, "python", "toml", "sql", "yaml", "json", "text")
"""Each has a test; text is for output and drawings."""

_MARKS = ("not run", "background", "stopped", "exit", "typed", "server", "settings")
_BLOCK = re.compile(
    r"(?P<comments>(?:^ *<!--[^\n]*-->\n)*)^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.M | re.S,
)


@dataclass(slots=True, frozen=True)
class Block:
    """One, as it stands on a page."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """Those of a page in these languages, or all."""
    return [each for each in _blocks(page) if not languages or each.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        marks = marks_of(found["comments"])
        yield Block(page, line, found["language"], found["text"], marks)


def marks_of(text: str) -> dict[str, str]:
    """What the comments in a text say. Raises ValueError for a word that is none of ours."""
    marks = {}
    for comment in re.findall(r"<!-- *(.*?) *-->", text):
        name, _, value = comment.partition(":")
        if name not in _MARKS:
            raise ValueError(f"unknown mark {comment!r}")
        marks[name] = value.strip()
    return marks


def wish_of(page: Path, name: str) -> str | None:
    """What a mark says that is about the whole page."""
    found = re.search(rf"^<!-- {name}: (\S+) -->$", page.read_text("utf-8"), re.M)
    return found[1] if found else None

"""Gathers the pages of the site, and looks at the site that was made of them.

    python tools/website.py gather FOLDER     all of docs/, and the pages of the project beside it, with links that fit
    python tools/website.py check FOLDER      exit code 1: a page of the site would fetch something from elsewhere

It needs nothing but Python, for mkdocs has an environment of its own.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BESIDE = {
    name: f"project/{Path(name).name}"
    for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONVENTIONS.md", "bench/RESULTS.md")
}
"""Pages of the project that are not below docs/, and where they are on the site."""

_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//|<link[^>]*rel=[\"']?(?:stylesheet|preload|icon)"
    r"[^>]*href=[\"']?(?:https?:)?//|@import\s+[\"'(]*https?:|url\([\"']?https?:"
)


def pages() -> Iterator[tuple[str, str]]:
    """(path in the project, path on the site) of each file."""
    docs = ROOT / "docs"
    for path in sorted(docs.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"docs/{path.relative_to(docs)}", str(path.relative_to(docs))
    yield from BESIDE.items()


def with_links(text: str, source: str, places: dict[str, str]) -> str:
    """A page whose links lead to where things are on the site, with titles of pages in place of names of files; what is
    not there is named without a link."""

    def mended(found: re.Match[str]) -> str:
        words, link = found.groups()
        target, _, anchor = link.partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        place = places.get(_joined(source, target))
        if place is None:
            return words
        if words.endswith(".md"):
            words = title_of(_joined(source, target))
        up = "../" * places[source].count("/")
        return f"[{words}]({up}{place}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(mended, text)


def title_of(source: str) -> str:
    """The first heading of a page, or its path."""
    found = re.search(r"^# (.+)$", (ROOT / source).read_text("utf-8"), re.M)
    return found[1] if found else source


def _joined(source: str, target: str) -> str:
    """The path in the project that a link of `source` leads to."""
    parts = source.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1] if parts else ["outside"]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def gather(folder: Path) -> None:
    """Made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    places = dict(pages())
    for source, place in places.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.endswith(".md"):
            text = (ROOT / source).read_text("utf-8")
            target.write_text(with_links(text, source, places), "utf-8")
        else:
            shutil.copyfile(ROOT / source, target)


def fetched(folder: Path) -> Iterator[str]:
    """What pages and style sheets take from other hosts."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".css"):
            for found in _FETCHED.findall(path.read_text("utf-8")):
                yield f"{path}: {found}"


def main() -> None:
    """As the module says."""
    match sys.argv[1:]:
        case ["gather", folder]:
            gather(Path(folder))
        case ["check", folder]:
            sys.exit("\n".join(fetched(Path(folder))) or 0)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

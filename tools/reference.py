"""Makes the pages and man pages that say what the code says.

    python tools/reference.py [--write]

Without --write it only looks (`make check` does); exit code 1 names the files that are not what the code is.
`make format` writes them.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import commands
import metrics
import settings
import standards
import views

DOCS = Path(__file__).resolve().parent.parent / "docs"

FILES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/configuration.md": settings.page,
    "reference/standards.md": standards.page,
    "metrics.md": metrics.page,
    "schema.md": views.page,
    "man/pillarbox.1": commands.man,
    "man/pillarbox.toml.5": settings.man,
}
"""Each below docs/, and who makes it."""


def main() -> None:
    """Look, or write."""
    old = []
    for name, make in FILES.items():
        path, text = DOCS / name, make()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        old.append(f"docs/{name}")
        if "--write" in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    if old and "--write" not in sys.argv[1:]:
        sys.exit(f"not what the code is: {', '.join(old)}; run: python tools/reference.py --write")


if __name__ == "__main__":
    main()

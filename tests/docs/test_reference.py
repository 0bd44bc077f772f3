"""Pages and man pages that are made from the code: current, complete, and without faults of form."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

import roff
from pillarbox.cli.main import MODULES
from pillarbox.config.load import load_config
from pillarbox.config.reference import EXAMPLE

DOCS = ROOT / "docs"
MAN_PAGES = sorted((DOCS / "man").iterdir())


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_made_from_the_code_is_what_the_code_is() -> None:
    done = run_tool("tools/reference.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_pages_are_without_warnings(page: Path) -> None:
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tutf8", "-P-bcou", str(page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert "NAME\n" in done.stdout


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_pages_please_mandoc(page: Path) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(page)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert found == []


def test_the_man_page_of_the_configuration_has_each_setting(tmp_path: Path) -> None:
    text = (DOCS / "man" / "pillarbox.toml.5").read_text()
    names = re.findall(r"^(\w+) *=", EXAMPLE, re.M)
    assert len(names) > 60
    for name in names:
        assert f"\\fB{name}\\fR" in text
    (tmp_path / "pillarbox.toml").write_text(EXAMPLE)
    load_config(tmp_path / "pillarbox.toml")


def test_each_command_has_its_place() -> None:
    page = (DOCS / "reference" / "commands.md").read_text()
    man = (DOCS / "man" / "pillarbox.1").read_text().replace("\\-", "-")
    for name in MODULES:
        assert f"\n## pillarbox {name}\n" in page
        assert f'\n.SS "pillarbox {name}' in man


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize(
    "text", [".so /etc/passwd", "'br", "a \\fB b", "--json", "`x` ~/^", '"quoted"']
)
def test_text_is_no_request_to_roff(text: str) -> None:
    source = "\n".join([*roff.title("x", 1, "1"), *roff.section(text), *roff.literal(text)])
    done = subprocess.run(
        ["groff", "-ww", "-man", "-Tascii", "-P-bcou"],
        input=source + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    assert [line.strip() for line in done.stdout.splitlines()].count(text) == 2


def test_the_wheel_has_the_man_pages() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for page in MAN_PAGES:
        assert f'"share/man/man{page.suffix[1:]}" = ["docs/man/{page.name}"]' in text


def test_the_site_has_each_page_and_links_that_fit(tmp_path: Path) -> None:
    assert run_tool("tools/website.py", "gather", str(tmp_path / "pages")).returncode == 0
    made = {
        str(path.relative_to(tmp_path / "pages")) for path in (tmp_path / "pages").rglob("*.md")
    }
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert made == named
    text = (tmp_path / "pages" / "index.md").read_text()
    assert "](project/ARCHITECTURE.md)" in text
    assert "[Security](security.md) says what is defended" in text
    text = (tmp_path / "pages" / "project" / "ARCHITECTURE.md").read_text()
    assert "](../adr/0005-figures-of-all-workers.md)" in text


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<link href=x rel=stylesheet href='//fonts.example/x.css'>",
        "@import url(https://fonts.example/x.css)",
    ],
)
def test_a_site_that_fetches_from_elsewhere_is_no_good(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.html").write_text('<a href="https://elsewhere.example/">a link</a>')
    assert run_tool("tools/website.py", "check", str(tmp_path)).returncode == 0
    (tmp_path / "index.html").write_text(text)
    assert run_tool("tools/website.py", "check", str(tmp_path)).returncode == 1

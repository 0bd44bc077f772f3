"""Each program on a page, and each in docs/examples, is run as it stands."""

import os
import re
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, ROOT, Block, blocks

from pillarbox.testing import MailServer

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("test_*.py"))

README, TESTING = ROOT / "README.md", ROOT / "docs" / "testing.md"
ENGINES = ROOT / "docs" / "engines.md"
OF_TESTS = (README, TESTING)
"""Pages that show test functions; what all others show is run as it stands."""


def programs() -> list[Any]:
    found = [block for page in PAGES if page not in OF_TESTS for block in blocks(page, "python")]
    return [pytest.param(block, id=str(block)) for block in found]


@pytest.mark.parametrize("block", programs())
def test_programs_on_pages_run(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {})


def test_examples_of_engines_are_short() -> None:
    sizes = [block.text.count("\n") for block in blocks(ENGINES, "python")]
    assert len(sizes) == 6
    assert max(sizes) <= 30


def send_welcome(host: str, port: int, to: str) -> None:
    """The application of the README."""
    with smtplib.SMTP(host, port, timeout=10) as client:
        client.sendmail("shop@example.net", [to], f"To: {to}\r\nSubject: Welcome\r\n\r\nHello\r\n")


def test_the_example_in_the_readme_runs(mailserver: MailServer) -> None:
    names: dict[str, Any] = {"send_welcome": send_welcome}
    (block,) = blocks(README, "python")
    exec(compile(block.text, str(block), "exec"), names)
    names["test_my_application_sends_a_welcome"](mailserver)


def test_the_page_on_tests_runs_as_it_stands(tmp_path: Path) -> None:
    """With nothing else: what its tests use, it shows."""
    text = "\n".join(block.text for block in blocks(TESTING, "python"))
    (tmp_path / "test_page.py").write_text(text)
    count = len(re.findall(r"^(?:async )?def test_", text, re.M))
    assert f"{count} passed" in run_pytest(tmp_path / "test_page.py")


def run_pytest(*arguments: object) -> str:
    """Another pytest, as in a project without any configuration; only installed plugins are there."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_with_libraries_run(path: Path) -> None:
    if path.stem not in ("test_smtplib", "test_imaplib"):
        pytest.importorskip(
            path.stem.removeprefix("test_"), reason=f"what {path.name} shows is not installed"
        )
    output = run_pytest(path)
    assert "passed" in output
    assert "skipped" not in output


def test_servers_of_parallel_workers_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "test_many.py").write_text(
        "import smtplib, pytest\n"
        "@pytest.mark.parametrize('number', range(12))\n"
        "def test_one(mailserver, number):\n"
        "    with smtplib.SMTP(mailserver.host, mailserver.ports['smtp'], timeout=20) as client:\n"
        "        to = ['alice@example.test', 'x@other.example']\n"
        "        client.sendmail('bob@example.test', to, f'Subject: {number}\\r\\n\\r\\n')\n"
        "    assert [mail['Subject'] for mail in mailserver.outbox] == [str(number)] * 2\n"
    )
    assert "12 passed" in run_pytest("-n", 2, tmp_path)

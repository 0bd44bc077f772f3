"""Each program on a page, and each in docs/examples, is run as it stands."""

import inspect
import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, ROOT, Block, blocks

from pillarbox.testing import MailServer

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("test_*.py"))

OF_TESTS = (ROOT / "README.md", ROOT / "docs" / "testing.md")
"""Pages that show test functions; what all others show is run as it stands."""


def programs() -> list[Any]:
    found = [block for page in PAGES if page not in OF_TESTS for block in blocks(page, "python")]
    return [pytest.param(block, id=str(block)) for block in found]


@pytest.mark.parametrize("block", programs())
def test_programs_on_pages_run(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {})


def functions() -> list[Any]:
    found = []
    for page in OF_TESTS:
        text = "".join(block.text for block in blocks(page, "python"))
        found += [(page, name) for name in re.findall(r"^def (test_\w+)", text, re.M)]
    return [pytest.param(page, name, id=name) for page, name in found]


def send_welcome(host: str, port: int, to: str) -> None:
    """The application of the README."""
    with smtplib.SMTP(host, port, timeout=10) as client:
        client.sendmail("shop@example.net", [to], f"To: {to}\r\nSubject: Welcome\r\n\r\nHello\r\n")


@pytest.mark.parametrize(("page", "name"), functions())
def test_examples_of_the_test_server_run(mailserver: MailServer, page: Path, name: str) -> None:
    names: dict[str, Any] = {"send_welcome": send_welcome}
    for block in blocks(page, "python"):
        exec(compile(block.text, str(block), "exec"), names)
    test: Callable[..., None] = names[name]

    def send(to: str = "bob@example.test") -> int | str:
        try:
            with smtplib.SMTP(mailserver.host, mailserver.ports["smtp"], timeout=10) as client:
                client.sendmail("alice@example.test", to, "Subject: x\r\n\r\n")
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[to][0]
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code
        except smtplib.SMTPServerDisconnected:
            return "disconnected"
        return 250

    known = {"mailserver": mailserver, "send": send}
    test(**{name: known[name] for name in inspect.signature(test).parameters})


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

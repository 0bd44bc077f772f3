"""What docs/testing.md, docs/engines.md and docs/examples show is run as it stands."""

import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pillarbox.testing import MailServer

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("test_*.py"))


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)


def titles_and_code(page: str) -> list[Any]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    sections = re.findall(r"^## (.+?)\n(?:(?!^## ).)*?```python\n(.*?)```", text, re.M | re.S)
    return [pytest.param(code, id=title) for title, code in sections]


@pytest.mark.parametrize("code", titles_and_code("engines.md"))
def test_examples_of_the_engines_run(code: str) -> None:
    exec(compile(code, "engines.md", "exec"), {})


def _functions() -> list[Any]:
    functions = re.findall(
        r"def (test_\w+)\(.*?(?=\n\n\n|\Z)", "\n\n\n".join(code_of("testing.md")), re.S
    )
    return [pytest.param(name, id=name) for name in functions]


@pytest.mark.parametrize("name", _functions())
def test_examples_of_the_test_server_run(mailserver: MailServer, name: str) -> None:
    names: dict[str, Any] = {}
    for code in code_of("testing.md"):
        exec(compile(code, "testing.md", "exec"), names)
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

    test(mailserver, send)


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

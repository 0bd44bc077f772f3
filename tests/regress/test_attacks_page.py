"""docs/attacks.md names the tests that try each attack: they are there, and no attack is without one."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text("utf-8")
ATTACKS = (
    "slow-loris",
    "10,000 connections",
    "floods of logins",
    "by time",
    "by words",
    "pipelined floods",
    "decompression bombs",
    "literal bombs",
    "regular expressions",
    "deep MIME",
    "accents heaped",
    "paths in names",
    "header fields",
    "SQL injection",
    "LDAP injection",
    "downgrade",
    "in front of the handshake",
    "mailbox of another user",
    "percent hack",
    "PROXY or XCLIENT",
)


def rows() -> dict[str, list[tuple[str, str]]]:
    """By attack, file and name of each test."""
    found: dict[str, list[tuple[str, str]]] = {}
    attack = file = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            attack = line.removeprefix("## ")
        elif line.startswith("- `"):
            file = line[3:-1]
        elif line.startswith("    - `"):
            found.setdefault(attack, []).append((file, line[7:-1]))
    return found


def test_the_tests_that_the_page_names_are_there() -> None:
    named = {pair for tests in rows().values() for pair in tests}
    assert len(named) > 50
    for file in {file for file, _ in named}:
        tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
        there = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert {name for each, name in named if each == file} <= there, file


def test_every_attack_has_its_tests() -> None:
    for attack in ATTACKS:
        (tests,) = [tests for name, tests in rows().items() if attack.lower() in name.lower()]
        assert tests, attack
    named = {file for tests in rows().values() for file, _ in tests}
    for path in (ROOT / "tests" / "service" / "attacks").glob("test_*.py"):
        assert f"service/attacks/{path.name}" in named, "the page says what is tried there"

"""No regular expression of ours takes more than linear time, whatever it is given (CPython's engine goes back)."""

import ast
import functools
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path
from re import _constants as code  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import pillarbox

ROOT = Path(pillarbox.__file__).parent
MANY = 2000
"""Repetitions: a pattern that goes back from each takes at least two million steps."""
MOST_S = 0.008
"""Of CPU; a linear pattern takes a tenth of it."""
ENDS = ("", "\x01", "\r\n", "é")
METHODS = {"match", "fullmatch", "search", "sub", "split", "findall", "finditer", "subn"}


def values(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Patterns in a value of a module: itself, or within containers and classes."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, dict):
        for each in value.values():
            yield from values(each, depth + 1)
    elif depth < 3 and isinstance(value, tuple | list | frozenset | set):
        for each in value:
            yield from values(each, depth + 1)
    elif depth < 2 and isinstance(value, type) and value.__module__.startswith("pillarbox."):
        yield from values(dict(vars(value)), depth + 1)


@functools.cache
def uses() -> dict[tuple[str, str], set[str]]:
    """Which methods are called on a name, by module; by "" in any of them."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                named = node.value
                name = getattr(named, "id", "") or getattr(named, "attr", "")
                for where in (module, ""):
                    found.setdefault((where, name), set()).add(node.attr)
    return found


@functools.cache
def patterns() -> dict[str, tuple[re.Pattern[Any], frozenset[str]]]:
    """All of the package, by module and name, with the methods that are called on them."""
    found = {}
    for info in pkgutil.walk_packages([str(ROOT)], "pillarbox."):
        if info.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            for number, pattern in enumerate(values(value)):
                # What is passed on is matched at one place; rows of tables are looked for.
                methods = {"match", "fullmatch"} if value is pattern else {"search"}
                if value is pattern:
                    where = info.name if name.startswith("_") else ""
                    methods = uses().get((where, name), methods)
                key = f"{info.name}.{name}" + (f" {number}" if number else "")
                found[key] = pattern, frozenset(methods)
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in METHODS
                and isinstance(node.args[0], ast.Constant)
            ):
                pattern = re.compile(node.args[0].value)
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = (
                    pattern,
                    frozenset({node.func.attr}),
                )
    return found


def characters(of: Any) -> list[str]:
    """Some that a set takes."""
    negated = any(op is code.NEGATE for op, _ in of)
    named: list[str] = []
    for op, argument in of:
        if op is code.LITERAL:
            named.append(chr(argument))
        elif op is code.RANGE:
            named += [chr(argument[0]), chr(argument[1])]
        elif op is code.CATEGORY:
            named += {code.CATEGORY_DIGIT: ["7"], code.CATEGORY_SPACE: [" "]}.get(argument, ["w"])
    if negated:
        return [char for char in ('"', "a", " ", "\\", "=", "?") if char not in named][:3]
    return named[:2] + named[-1:]


def texts(tree: Any, pumped: bool) -> Iterator[str]:
    """Texts that a pattern takes; if `pumped`, one of its repetitions is made MANY times."""
    parts = list(tree)
    usual = [next(part_texts(op, argument, False), "") for op, argument in parts]
    if not pumped:
        yield "".join(usual)
        return
    for place, (op, argument) in enumerate(parts):
        for text in part_texts(op, argument, True):
            yield "".join((*usual[:place], text))


def part_texts(op: Any, argument: Any, pumped: bool) -> Iterator[str]:
    if op in (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT):
        least, most, inner = argument
        if pumped:
            yield from texts(inner, True)
            if most is code.MAXREPEAT or most > 50:
                for text in bodies(inner):
                    yield text * min(MANY, MANY if most is code.MAXREPEAT else most)
        else:
            yield next(texts(inner, False)) * max(least, 0)
    elif op is code.SUBPATTERN:
        yield from texts(argument[3], pumped)
    elif op is code.ATOMIC_GROUP:
        yield from texts(argument, pumped)
    elif op is code.BRANCH:
        for each in argument[1]:
            yield from texts(each, pumped)
    elif not pumped:
        if op is code.LITERAL:
            yield chr(argument)
        elif op is code.NOT_LITERAL:
            yield "a" if argument != ord("a") else "b"
        elif op is code.ANY:
            yield "a"
        elif op is code.IN:
            yield from characters(argument)


def bodies(tree: Any) -> Iterator[str]:
    """What a repetition may repeat: each of its ways once."""
    parts = list(tree)
    if len(parts) == 1:
        op, argument = parts[0]
        if op is code.BRANCH:
            for each in argument[1]:
                yield from bodies(each)
            return
        if op is code.SUBPATTERN:
            yield from bodies(argument[3])
            return
        if op is code.IN:
            yield from characters(argument)
            return
    yield next(texts(tree, False), "")
    yield "".join(
        next(texts(argument[2], False), "")
        if op in (code.MAX_REPEAT, code.POSSESSIVE_REPEAT)
        else next(part_texts(op, argument, False), "")
        for op, argument in parts
    )


def attacks(pattern: re.Pattern[Any]) -> Iterator[Any]:
    seen = set()
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    for text in texts(tree, True):
        for end in ENDS:
            whole = text[: 20 * MANY] + end
            if whole not in seen:
                seen.add(whole)
                yield (
                    whole.encode("latin-1", "replace")
                    if isinstance(pattern.pattern, bytes)
                    else whole
                )


OURS = {"pillarbox.app.log._NAME"}
"""These see nothing that a stranger wrote."""


def took(pattern: re.Pattern[Any], method: str, text: Any) -> float:
    """Seconds of CPU."""
    began = time.thread_time()
    if method in ("match", "fullmatch"):
        getattr(pattern, method)(text)
    elif method == "search":
        pattern.search(text)
    else:
        for _ in pattern.finditer(text):  # what all the others do
            pass
    return time.thread_time() - began


@pytest.mark.parametrize("name", sorted(patterns().keys() - OURS))
def test_a_pattern_takes_linear_time(name: str) -> None:
    pattern, methods = patterns()[name]
    for text in attacks(pattern):
        for method in methods:
            if took(pattern, method, text) > MOST_S:
                assert min(took(pattern, method, text) for _ in range(3)) < MOST_S, (
                    method,
                    pattern.pattern,
                    text[:60],
                )


@pytest.mark.parametrize("evil", ["(a+)+b", "(a|aa)+b", "[ab]*[bc]*d", "[ \\t]+$"])
def test_an_evil_pattern_would_be_found(evil: str) -> None:
    pattern = re.compile(evil)
    found = False
    for text in attacks(pattern):
        # These are exponential, to the bases of 2 and 1.6.
        short = text[: {"(a+)+b": 22, "(a|aa)+b": 32}.get(evil, len(text))]
        found = found or took(pattern, "search", short) > MOST_S
    assert found

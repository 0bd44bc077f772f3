"""Writes man pages in roff, with the macros of man(7). Plain text goes in; nothing in it is taken for a request."""

import re


def escaped(text: str) -> str:
    """Text as it shall be read: backslashes, and the signs that roff turns into typographic ones."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")


def line(text: str) -> str:
    """A line of text that is no request, whatever it begins with."""
    text = escaped(text)
    return "\\&" + text if text.startswith(".") else text


def prose(text: str) -> str:
    """Text with `code` in it, which becomes bold."""
    parts = re.split(r"`([^`]+)`", text)
    marked = "".join(
        f"\\fB{escaped(part)}\\fR" if number % 2 else escaped(part)
        for number, part in enumerate(parts)
    )
    return "\\&" + marked if marked.startswith(".") else marked


def title(name: str, section: int, version: str) -> list[str]:
    return [f'.TH {name.upper()} {section} "" "{escaped(version)}"']


def section(name: str) -> list[str]:
    return [f'.SH "{_argument(name)}"']


def subsection(name: str) -> list[str]:
    return [f'.SS "{_argument(name)}"']


def paragraph(text: str) -> list[str]:
    return [".PP", prose(text)]


def item(term: str, text: str) -> list[str]:
    """A term in bold, with what it is below it."""
    return [".TP", f"\\fB{escaped(term)}\\fR", prose(text) or "\\&"]


def literal(text: str) -> list[str]:
    """Lines that stay as they are."""
    return [".PP", ".nf", ".RS 4", *(line(each) for each in text.splitlines()), ".RE", ".fi"]


def joined(lines: list[str]) -> str:
    """The whole page. A heading begins a paragraph itself."""
    kept = [
        each
        for before, each in zip(["", *lines], lines, strict=False)
        if each != ".PP" or not before.startswith((".SH", ".SS"))
    ]
    return "\n".join(kept) + "\n"


def _argument(text: str) -> str:
    return escaped(text).replace('"', "\\(dq")

"""The reference of the configuration, as a page and as the man page pillarbox.toml(5).

Names, defaults and words are those of `pillarbox config example`, kinds those of `config/schema.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

import roff
from pillarbox import __version__
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config

HEAD = """# Configuration

Made from the program by `python tools/reference.py --write`. `pillarbox config example` prints a file with all of this
to begin with, `pillarbox config check` says what is wrong with yours, in words.

The file is TOML. Only `hostname` and `data_dir` must be there. Settings count when the server starts. Times are texts
like `"30s"`, `"4h"`, `"5d"`; sizes are octets.

"""


@dataclass(slots=True)
class Setting:
    name: str
    kind: str
    default: str
    """In TOML; empty: it must be set."""
    words: str = ""


@dataclass(slots=True)
class Group:
    """Settings that one comment is about."""

    words: list[str]
    """Paragraphs; lines that are an example begin with four spaces."""
    settings: list[Setting] = field(default_factory=list)


@dataclass(slots=True)
class Section:
    name: str
    """Empty: at the top of the file."""
    groups: list[Group] = field(default_factory=list)


def sections() -> list[Section]:
    """All, in the order of the example."""
    found = [Section("")]
    comment: list[str] = []
    for text in EXAMPLE.splitlines():
        if header := re.fullmatch(r"\[(\w+(?:\.\w+)?)\]", text):
            found.append(Section(header[1], [Group(_paragraphs(comment))] if comment else []))
            comment = []
        elif text.startswith("#"):
            comment.append(text[1:].removeprefix(" "))
        elif further := re.fullmatch(r" +# (.*)", text):
            found[-1].groups[-1].settings[-1].words += f" {further[1]}"
        elif setting := re.fullmatch(r"(\w+) *= (.+?)(?: +# (.*))?", text):
            groups = found[-1].groups
            if comment or not groups:
                groups.append(Group(_paragraphs(comment)))
                comment = []
            name, value, words = setting.groups()
            groups[-1].settings.append(_setting(found[-1].name, name, value, words or ""))
        else:
            assert not text, text
            if comment and len(found) == 1 and not found[0].groups:
                comment = []  # what it says of the whole file
    return found


def _setting(section: str, name: str, value: str, words: str) -> Setting:
    if not section and name in ("hostname", "data_dir"):
        value = ""
    elif section == "listen":
        value = "[]"
    return Setting(name, kind_of(section, name), value, words)


def _paragraphs(comment: list[str]) -> list[str]:
    """Behind an empty line everything is an example."""
    words, _, example = "\n".join(comment).partition("\n\n")
    return [" ".join(words.split())] + (
        ["\n".join(f"    {each}" for each in example.splitlines())] if example else []
    )


def kind_of(section: str, name: str) -> str:
    """In words."""
    struct: Any = Config
    for part in section.split(".") if section else ():
        struct = get_type_hints(struct)[part]
    names = {each.encode_name: each.name for each in msgspec.structs.fields(struct)}
    return _kind(get_type_hints(struct)[names[name]])


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in get_args(hint))
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        return "list of texts" if inner is str else "list of tables"
    if get_origin(hint) is dict:
        return "table"
    return {str: "text", int: "number", bool: "true or false"}[hint]


def _told(setting: Setting) -> str:
    if not setting.default:
        return f"{setting.kind}; must be set"
    return f"{setting.kind}; default `{setting.default}`"


def page() -> str:
    """In Markdown."""
    return HEAD + "\n".join(
        "\n".join(_section(section)) for section in sections() if section.groups
    )


def _section(section: Section) -> Iterator[str]:
    yield f"## [{section.name}]\n" if section.name else "## At the top of the file\n"
    for group in section.groups:
        for words in group.words:
            yield (
                f"```toml\n{_example(words)}\n```\n"
                if words.startswith("    ")
                else f"{_escaped(words)}\n"
            )
        for setting in group.settings:
            words = f": {_escaped(setting.words)}" if setting.words else ""
            yield f"- `{setting.name}` ({_told(setting)}){words}"
        if group.settings:
            yield ""


def _example(words: str) -> str:
    return "\n".join(each[4:] for each in words.splitlines())


def _escaped(text: str) -> str:
    """Names of settings and files become code; signs that mean something in Markdown lose their meaning."""
    text = re.sub(r"(?<![`\w/])([\w./]*\w_\w+(?:/[\w.]+\w)*)(?![`\w])", r"`\1`", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<\[])", r"\\\1", part) for part in parts
    )


def man() -> str:
    """pillarbox.toml(5)."""
    lines = roff.title("pillarbox.toml", 5, f"Pillarbox {__version__}")
    lines += [
        *roff.section("NAME"),
        "pillarbox.toml \\- the configuration of the mail server pillarbox",
    ]
    lines += roff.section("DESCRIPTION")
    for text in HEAD.split("\n\n")[2:]:
        lines += roff.paragraph(" ".join(text.split())) if text else []
    lines += roff.paragraph(
        "`pillarbox config example` prints a file to begin with; `pillarbox config check` says"
        " what is wrong with one."
    )
    for section in sections():
        lines += (
            roff.section(f"[{section.name}]" if section.name else "AT THE TOP OF THE FILE")
            if section.groups
            else []
        )
        for group in section.groups:
            for words in group.words:
                lines += (
                    roff.literal(_example(words))
                    if words.startswith("    ")
                    else roff.paragraph(words)
                )
            for setting in group.settings:
                told = _told(setting).replace("`", "")
                lines += roff.item(
                    setting.name, f"{told}{': ' if setting.words else ''}{setting.words}"
                )
    lines += [*roff.section("SEE ALSO"), roff.prose("`pillarbox`(1)")]
    return roff.joined(lines)

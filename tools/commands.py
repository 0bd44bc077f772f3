"""The reference of all commands, as a page and as the man page pillarbox(1), from what `--help` says."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

import roff
from pillarbox import __version__
from pillarbox.cli.main import pillarbox
from pillarbox.config.load import find_config

EVERYWHERE = {"--config", "--help"}
"""Options of each command, told once."""

HEAD = """# Commands

Made from the program by `python tools/reference.py --write`; `pillarbox COMMAND --help` says the same.

Every command takes `--config FILE` and `--help`, before its name or behind it. CONFIGURATION

Exit codes: 0 done, 1 refused (with one line on stderr that says why), 2 wrong usage. `--json` is for programs: what it
prints keeps its names. `man pillarbox` says the same where the package's man pages are installed.

"""


@dataclass(slots=True)
class Entry:
    """One command: its words, and what its help says."""

    words: str
    usage: str
    paragraphs: list[str]
    options: list[tuple[str, str]]
    example: str
    is_group: bool


def entries() -> Iterator[Entry]:
    """All commands, sorted, a group before what is in it."""
    root = click.Context(pillarbox, info_name="pillarbox")
    for name in pillarbox.list_commands(root):
        command = pillarbox.get_command(root, name)
        assert command is not None
        yield from _below(command, click.Context(command, info_name=name, parent=root))


def _below(command: click.Command, context: click.Context) -> Iterator[Entry]:
    is_group = isinstance(command, click.Group)
    yield Entry(
        context.command_path,
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        paragraphs_of(command.help or ""),
        [record for record in _options(command, context) if not _is_told_once(record[0])],
        re.sub(r"^Example: ", "", command.epilog or ""),
        is_group,
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _below(inner, click.Context(inner, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # an argument is named by the usage
            yield record


def _is_told_once(names: str) -> bool:
    return any(name.split()[0] in EVERYWHERE for name in names.split(", "))


def paragraphs_of(text: str) -> list[str]:
    """Of a docstring; lines of one that begins with \\b stay lines."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            found.append(paragraph.removeprefix("\b").strip("\n"))
        else:
            found.append(" ".join(paragraph.split()))
    return [paragraph for paragraph in found if paragraph]


def configuration() -> str:
    """How it is found, in the words of the root command."""
    (text,) = [each for each in paragraphs_of(pillarbox.help or "") if "/etc/pillarbox" in each]
    assert "$PILLARBOX_CONFIG" in (find_config.__doc__ or "")
    return text


def page() -> str:
    """In Markdown."""
    told = list(entries())
    text = HEAD.replace(
        "CONFIGURATION", re.sub(r"(\$?[./\w]*[/_]\w[./\w]*\w)", r"`\1`", configuration())
    )
    tops = [entry for entry in told if entry.words.count(" ") == 1]
    text += "| command | what it does |\n| --- | --- |\n"
    for entry in tops:
        text += f"| [{entry.words}](#{entry.words.replace(' ', '-')}) | {_cell(entry.paragraphs[0])} |\n"
    for entry in told:
        level = "##" if entry.words.count(" ") == 1 else "###"
        text += f"\n{level} {entry.words}\n\n"
        if not entry.is_group:
            text += f"`{entry.usage}`\n\n"
        text += "\n\n".join(_markdown(paragraph) for paragraph in entry.paragraphs) + "\n"
        if entry.options:
            text += "\n"
        text += "".join(f"- `{name}`: {_markdown(help_)}\n" for name, help_ in entry.options)
        if entry.example and not entry.is_group:
            text += f"\nExample: `{entry.example}`\n"
    return text


def _markdown(text: str) -> str:
    """Signs that mean something there, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<\[])", r"\\\1", part) for part in parts
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def man() -> str:
    """pillarbox(1)."""
    lines = roff.title("pillarbox", 1, f"Pillarbox {__version__}")
    lines += [*roff.section("NAME"), "pillarbox \\- a complete mail server: SMTP, IMAP and POP3"]
    lines += roff.section("SYNOPSIS")
    lines += [roff.prose("`pillarbox` [--config FILE] COMMAND [OPTIONS] [ARGUMENTS]")]
    lines += roff.section("DESCRIPTION")
    for text in paragraphs_of(pillarbox.help or ""):
        lines += roff.paragraph(text)
    lines += roff.paragraph(
        "The pages of the project tell how to set a server up and look after it;"
        " `pillarbox quickstart` begins. Each command explains itself with `--help`."
    )
    lines += roff.section("OPTIONS OF ALL COMMANDS")
    lines += roff.item("--config FILE", "The configuration file.")
    lines += roff.item("-h, --help", "What the command does.")
    lines += roff.item("--version", "Only without a command: the version.")
    lines += roff.section("COMMANDS")
    for entry in entries():
        lines += roff.subsection(entry.words if entry.is_group else entry.usage)
        for text in entry.paragraphs:
            lines += roff.literal(text) if "\n" in text else roff.paragraph(text)
        for name, help_ in entry.options:
            lines += roff.item(name, help_)
        if entry.example and not entry.is_group:
            lines += [*roff.paragraph("Example:"), *roff.literal(entry.example)]
    lines += roff.section("EXIT STATUS")
    lines += roff.item("0", "Done.")
    lines += roff.item("1", "Refused; a line on stderr says why.")
    lines += roff.item("2", "Wrong usage.")
    lines += roff.section("ENVIRONMENT")
    lines += roff.item("PILLARBOX_CONFIG", "The configuration file, where `--config` names none.")
    lines += roff.section("FILES")
    lines += roff.item(
        "./pillarbox.toml, /etc/pillarbox/pillarbox.toml",
        "The configuration, where nothing names another.",
    )
    lines += roff.section("SEE ALSO")
    lines += [roff.prose("`pillarbox.toml`(5)")]
    return roff.joined(lines)

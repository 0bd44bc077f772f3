"""What pages show of settings, SQL and JSON is right; each link leads somewhere; each command that is named exists."""

import asyncio
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import click
import pytest
import trustme
from pages import PAGES, ROOT, Block, blocks, name_of

from pillarbox.cli.main import pillarbox
from pillarbox.config.load import load_config
from pillarbox.core.dates import pack_date
from pillarbox.store.accounts import account_path
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store


def all_blocks(language: str) -> list[Any]:
    found = itertools.chain.from_iterable(blocks(page, language) for page in PAGES)
    return [pytest.param(block, id=str(block)) for block in found]


@pytest.fixture(scope="module")
def ca() -> bytes:
    return trustme.CA().cert_pem.bytes()


@pytest.mark.parametrize("block", all_blocks("toml"))
def test_settings_on_pages_are_taken(tmp_path: Path, block: Block, ca: bytes) -> None:
    text = block.text
    if "hostname" not in tomllib.loads(text):
        text = f'hostname = "mail.example.org"\ndata_dir = "data"\n{text}'
    path = tmp_path / "pillarbox.toml"
    path.write_text(text)
    for name in re.findall(r'"([\w.-]+(?:\.pem|-password|-token))"', text):
        (tmp_path / name).write_bytes(ca if name.endswith(".pem") else b"secret\n")
    load_config(path)


@pytest.mark.parametrize("block", all_blocks("json"))
def test_json_on_pages_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_files_that_prometheus_is_told_of_are_there(block: Block) -> None:
    (rules,) = re.findall(r"rule_files: \[(\S+)\]", block.text)
    assert 'job="pillarbox"' in (ROOT / "contrib" / rules).read_text()
    assert "job_name: pillarbox" in block.text


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    folder = tmp_path_factory.mktemp("account")

    async def fill() -> None:
        store = Store(folder)
        octets = b"From: Ann <ann@x.example>\r\nSubject: Re: Hi\r\n\r\nText\r\n"
        await store.append(1, Append(1, make_content(octets), pack_date(1_790_000_000)))
        await store.close()

    asyncio.run(fill())
    path = account_path(folder / "accounts", 1)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    yield connection
    connection.close()


@pytest.mark.parametrize("block", all_blocks("sql"))
def test_questions_on_pages_have_answers(account: apsw.Connection, block: Block) -> None:
    statements = [each for each in block.text.split(";\n") if each.strip()]
    for statement in statements:
        assert account.execute(statement).fetchall(), statement


def anchors(page: Path) -> set[str]:
    """Of the headings, as the site and GitHub make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{name_of(page)}: {link}"


def named_commands(page: Path) -> Iterator[str]:
    """`pillarbox ...` within sentences."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for code in re.findall(r"`([^`\n]+)`", text):
        if re.match(r"(\.venv/bin/)?pillarbox [a-z-]", code):
            yield code.partition("pillarbox ")[2]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_sentences_name_are_understood(page: Path) -> None:
    for text in named_commands(page):
        words = shlex.split(re.split(r" [|<>&]+ | \[", text)[0])
        command: click.Command = pillarbox
        context = click.Context(pillarbox, info_name="pillarbox")
        while isinstance(command, click.Group) and words and not words[0].startswith(("-", "<")):
            if words[0] == "..." or words[0].isupper():
                break
            found = command.get_command(context, words.pop(0))
            assert found is not None, f"{name_of(page)}: pillarbox {text}"
            command, context = found, click.Context(found, info_name=found.name, parent=context)
        if command.name == "sendmail":
            continue  # its options are those of another program
        if isinstance(command, click.Group):
            assert not words or words[0] in ("...", "--help") or words[0].isupper(), text
            continue
        try:
            command.make_context(command.name, [*words], parent=context.parent)
        except click.MissingParameter:
            pass  # a sentence may name a command without its arguments
        except click.UsageError as error:
            if isinstance(error, click.BadParameter) and any(word.isupper() for word in words):
                continue  # WHAT stands for a value
            pytest.fail(f"{name_of(page)}: pillarbox {text}: {error.format_message()}")

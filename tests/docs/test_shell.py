"""Each shell line of each page is run as it stands, or says why it cannot be.

`pages.py` has the marks by which a page says how, `shell.py` what is replaced and compared, `example_org.py` the
server.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from example_org import ZONE, Server, copy, make_template
from pages import LANGUAGES, PAGES, SHELL, Block, blocks, name_of, wish_of
from shell import Place, dialogue, fits
from small_dns import SmallDns

WITH_SHELL = [
    page for page in PAGES if any("not run" not in each.marks for each in blocks(page, *SHELL))
]

PROGRAMS = ("curl", "openssl", "jq", "sqlite3", "swaks", "setsid", "make", "dig", "msmtp", "mbsync")
"""That a line may need and a machine may lack."""


def in_folder() -> Path:
    """Which no-root's can reach, as those of pytest cannot be where it runs as root."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-docs-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def small_dns() -> Iterator[SmallDns]:
    dns = SmallDns()
    dns.zone.update(ZONE)
    yield dns
    dns.close()


@pytest.fixture(scope="session")
def template(small_dns: SmallDns) -> Iterator[tuple[Path, str]]:
    place = Place(in_folder())
    try:
        yield make_template(place, small_dns)
    finally:
        place.end()


@contextmanager
def server_for(page: Path, place: Place, request: pytest.FixtureRequest) -> Iterator[Server | None]:
    if wish_of(page, "server") is None:
        yield None
        return
    folder, waiting = request.getfixturevalue("template")
    for block in blocks(page, *SHELL):
        place.ids.update(dict.fromkeys(re.findall(r"\b02H[0-9A-Z]{13}\b", block.text), waiting))
    server = copy(folder, place, request.getfixturevalue("small_dns"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("page", WITH_SHELL, ids=name_of)
def test_shell_lines_do_what_the_page_says(page: Path, request: pytest.FixtureRequest) -> None:
    runnable = [each for each in blocks(page, *SHELL) if "not run" not in each.marks]
    for program in PROGRAMS:
        if shutil.which(program) is None and any(needs(each, program) for each in runnable):
            pytest.skip(f"{program} is not installed")
    place = Place(in_folder(), is_demo=wish_of(page, "server") is None)
    if settings := wish_of(page, "settings"):
        place.environment["PILLARBOX_CONFIG"] = str(place.path(settings))
    try:
        with server_for(page, place, request) as server:
            for block in runnable:
                if "stopped" in block.marks:
                    assert server is not None, f"{block}: the page has no server to stop"
                    server.stop()
                place.play(block)
                if "stopped" in block.marks:
                    server.start()
    finally:
        place.end()


def needs(block: Block, program: str) -> bool:
    if program == "setsid":
        return "typed" in block.marks
    return re.search(rf"(?:^|[|;&(]|\$) *{program}\b", block.text, re.M) is not None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_says_what_it_is(page: Path) -> None:
    """Nothing is left out by an oversight: a language that nobody tests, a mark without a reason, a hidden line."""
    text = page.read_text("utf-8")
    found = blocks(page)
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(found)
    for block in found:
        assert block.language in LANGUAGES, f"{block}: ```{block.language}"
        if block.language not in SHELL:
            assert "not run" not in block.marks, f"{block}: not for this language"
        if "not run" in block.marks:
            assert len(block.marks["not run"]) > 8, f"{block}: without a reason"
        if block.language == "console":
            assert block.text.startswith("$ "), f"{block}: no command"
        if block.language == "text":
            found_command = re.search(r"^(\$|pillarbox|sudo|curl|systemctl) ", block.text, re.M)
            assert not found_command, f"{block}: a command in a block of text"


@pytest.mark.parametrize(
    ("printed", "shown", "right"),
    [
        ("a 1\nb\n", "a 1\nb\n", True),
        ("a 1\nb\n", "a 1\n", False),
        ("a 1\nb\nc\n", "a ...\n...\nc\n", True),
        ("a 1\nb\nc\n", "a ...\n...\nd\n", False),
        ("x  2026-01-02 03:04:05Z    9 ms\n", "x 2027-12-31 13:14:15Z 10 ms\n", True),
        ("02H3LM73XMV1994B\n", "02H35N444BPXZQGY\n", True),
        ("", "...\n", True),
        ("a.b\n", "a.c\n", False),
    ],
)
def test_outputs_are_compared_but_for_what_differs_each_time(
    printed: str, shown: str, right: bool
) -> None:
    assert fits(printed, shown) is right


def test_a_dialogue_is_commands_with_their_output() -> None:
    text = "$ one\nout\n\n$ two \\\n>   more\n$ three\n"
    assert dialogue(text) == [("one\n", "out\n\n"), ("two \\\n  more\n", ""), ("three\n", "")]

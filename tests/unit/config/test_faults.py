"""All faults of a configuration are told at once, each with its line, and with the name that may be meant."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.config.lines import find_lines, line_of, parse_place
from pillarbox.config.load import load_config
from pillarbox.config.reference import EXAMPLE
from pillarbox.config.schema import Config
from pillarbox.config.shape import check_shape
from pillarbox.core.errors import Refused


def told(folder: Path, text: str) -> list[str]:
    """What is said of a file, without its name."""
    path = folder / "pillarbox.toml"
    path.write_text(text)
    with pytest.raises(Refused) as caught:
        load_config(path)
    return [line.removeprefix(str(path)) for line in caught.value.text.splitlines()]


def test_faults_of_all_sorts_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
hostname = "mail.example.org"
workers = -1
log_format = "xml"
colour = "red"
[listne]
imap = ["127.0.0.1"]
[smtp]
max_message_size = "10"
trusted_networks = [
    "192.0.2.1/24",
    "printer",
]
greeting_delay = "3 seconds"
"""
    found = told(tmp_path, text)
    assert [line.split(": ")[:2] for line in found] == [
        ["", "data_dir"],
        [":2", "workers"],
        [":3", "log_format"],
        [":4", "colour"],
        [":5", "listne"],
        [":6", "listen.imap"],
        [":8", "smtp.max_message_size"],
        [":9", "smtp.trusted_networks"],
        [":9", "smtp.trusted_networks"],
        [":13", "smtp.greeting_delay"],
    ]
    assert found[0].endswith("this setting is missing")
    assert found[4].endswith("there is no such section; did you mean listen?")
    assert "30s" in found[-1]


GOOD = 'hostname = "mail.example.org"\ndata_dir = "data"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[smtp]\ntrusted_network = []", "smtp.trusted_network: there is no such setting; did you mean "
         "smtp.trusted_networks?"),
        ("[listen]\nworkers = 2", "listen.workers: there is no such setting; workers stands above all sections"),
        ("[smtp]\nallow_cleartext_login = true", "did you mean security.allow_cleartext_login?"),
        ("color = 1", "color: there is no such setting"),
        ('[outbound.routes."x.example"]\nhosts = "a:25"', 'did you mean outbound.routes."x.example".host?'),
        ('[directory]\nclas = "a:B"', "did you mean directory.class?"),
        ("listen = 25", "listen: must be a section with settings"),
        ("[listen]\nimap = [143]", "listen.imap[0]: must be text in quotes"),
        ("[listen]\nimap = 143", 'listen.imap: must be a list like ["a", "b"]'),
        ("[tls]\ncertificates = [1]", "tls.certificates[0]: must be a section with settings"),
        ("[tls.certificates]", 'must be a list like [{ certificate = "...", key = "..." }]'),
        ("[outbound]\nroutes = 1", "outbound.routes: must be a section with settings"),
    ],
)  # fmt: skip
def test_one_fault_is_one_line_that_says_what_to_do(tmp_path: Path, text: str, words: str) -> None:
    (line,) = told(tmp_path, GOOD + text)
    assert line.endswith(words)


@pytest.mark.parametrize(
    "text",
    [
        '[tls]\ncertificat = "pillarbox.toml"\nkey = "pillarbox.toml"',
        '[tls]\ncertificate = 1\nkey = "pillarbox.toml"',
        '[outbound]\ngive_up_after = 20\nwarn_after = "10d"',
        '[tls]\ncertificates = [{ certificate = "pillarbox.toml" }]',
        '[outbound.routes."x.example"]\nhots = "a:25"\nprotocol = "lmtp"',
    ],
)
def test_what_follows_from_a_fault_is_not_told_as_another(tmp_path: Path, text: str) -> None:
    assert len(told(tmp_path, GOOD + text)) == 1


def test_a_name_mistyped_beside_the_right_one_hides_nothing_of_that(tmp_path: Path) -> None:
    found = told(tmp_path, GOOD + '[listen]\nimap = ["x"]\nimap4 = []')
    assert [line.split(": ")[1] for line in found] == ["listen.imap", "listen.imap4"]


def test_a_mistyped_required_name_is_one_fault(tmp_path: Path) -> None:
    (line,) = told(tmp_path, GOOD.replace("hostname", "hostnam"))
    assert line == ":1: hostnam: there is no such setting; did you mean hostname?"


SECTIONS = {
    each.name: each.type
    for each in msgspec.structs.fields(Config)
    if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct)
}
SETTINGS = [
    (section, each.encode_name)
    for section, kind in SECTIONS.items()
    for each in msgspec.structs.fields(kind)
]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(SETTINGS), max_size=8), st.sets(st.text(max_size=9), max_size=3))
def test_every_fault_is_told_whatever_others_there_are(
    wrong: set[tuple[str, str]], unknown: set[str]
) -> None:
    document = tomllib.loads(EXAMPLE)
    for section, name in wrong:
        document[section][name] = 1.5  # no setting takes such a number
    unknown = {name for name in unknown if name not in document}
    document |= dict.fromkeys(unknown, 1)
    found = {fault.place for fault in check_shape(document).faults}
    assert found == {f"{section}.{name}" for section, name in wrong} | unknown
    msgspec.convert(document, Config)  # what is left has none


VALUES = (
    "1",
    '"a # = ] b"',
    "'c\"'",
    '"\\"x"',
    "[1,\n 2, # ]\n 3]",
    '"""a\n[b]\nc = "1" """',
    "'''\n'''",
    "{ a = [1,\n2] }",
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("name", "table", "tables", "blank")),
            st.sampled_from(VALUES),
            st.sampled_from(("%s", '"%s"', "'%s'", '%s . "in.ner"')),
        ),
        max_size=12,
    )
)
def test_lines_of_any_document(statements: list[tuple[str, str, str]]) -> None:
    """Of names, sections and elements, whatever values stand before them."""
    text, prefix, expected = "", (), {}
    elements = -1
    for number, (kind, value, form) in enumerate(statements):
        line = text.count("\n") + 1
        name = f"n{number}"
        if kind == "blank":
            text += " # x = 1\r\n\n"
        elif kind == "name":
            text += f"  {form % name} = {value} # [y]\n"
            expected[(*prefix, name)] = line
        elif kind == "table":
            text += f"[ {form % name} ]\n"
            prefix = (name, "in.ner") if "in.ner" in form else (name,)
            expected[prefix] = line
        else:
            elements += 1
            text += "[[many.of]]\n"
            prefix = ("many", "of", elements)
            expected[prefix] = line
    tomllib.loads(text)
    lines = find_lines(text)
    assert {place: lines.get(place) for place in expected} == expected


@given(st.text(alphabet="\"'\\[]{}=.,#\n a", max_size=60))
def test_no_text_is_too_odd_for_lines(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in find_lines(text).values())


def test_places_are_read_as_they_are_written() -> None:
    assert parse_place('outbound.routes."a.b".tls') == ("outbound", "routes", "a.b", "tls")
    assert parse_place("tls.certificates[2].key") == ("tls", "certificates", 2, "key")
    lines = find_lines("[tls]\ncertificates = [\n{ key = 1 }]\n")
    assert line_of(lines, parse_place("tls.certificates[0].key")) == 2
    assert line_of(lines, parse_place("smtp.x")) is None

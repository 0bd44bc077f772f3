"""What is wrong with the shape of a configuration: names that do not exist, values of another type, what is missing.
All of it at once, and with the name that may be meant."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import msgspec

from pillarbox.config.schema import Config

_EXPECTED = re.compile("Expected `([^`]+)`")
_IN_WORDS = {
    "int": "a whole number, without quotes",
    "str": "text in quotes",
    "bool": "true or false, without quotes",
    "array": 'a list like ["a", "b"]',
    "object": "a section with settings",
}


@dataclass(slots=True, frozen=True)
class Fault:
    """Something that is wrong."""

    place: str
    """The section or setting, like "smtp.max_message_size"; of a section that is missing, its name."""
    text: str
    """What is wrong with it, and what to do."""
    meant: str = ""
    """The place that seems to be meant by one that does not exist, if it does not stand beside it."""


@dataclass(slots=True)
class Shape:
    """What `check_shape` finds."""

    faults: list[Fault] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    """Sections that stand under a name that does not exist, by the right one."""


def check_shape(document: dict[str, Any]) -> Shape:
    """All that is wrong; takes that out of the document, so that the rest becomes a `Config`. A section under a wrong
    name moves to the one that is meant; text that must be there and is not becomes empty."""
    shape = Shape()
    _check_section(shape, document, Config, "")
    return shape


def follows(place: str, text: str, faults: list[Fault]) -> bool:
    """Whether a problem of a place may be there only because what is at fault was taken out: it is about that, or about
    settings that go together with it."""
    for fault in faults:
        for told in filter(None, (fault.place, fault.meant)):
            section, _, name = told.rpartition(".")
            is_beside = section and (place == section or place.startswith(f"{section}."))
            if place == told or (is_beside and name in re.findall(r"\w+", text)):
                return True
    return False


def _check_section(shape: Shape, found: dict[str, Any], kind: Any, section: str) -> None:
    fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    prefix = f"{section}." if section else ""
    for name in [name for name in found if name not in fields]:
        fault = _unknown(name, found, list(fields), section)
        shape.faults.append(fault)
        value = found.pop(name)
        if isinstance(value, dict) and fault.meant in fields:
            found[fault.meant] = value
            shape.renamed[fault.meant] = name
    for name, each in fields.items():
        place = prefix + name
        if name in found:
            if not _check_value(shape, found[name], each.type, place):
                del found[name]
        elif each.required and all(fault.meant != place for fault in shape.faults):
            shape.faults.append(Fault(place, "this setting is missing"))
        if each.required:
            found.setdefault(name, "")


def _check_value(shape: Shape, value: Any, kind: Any, place: str) -> bool:
    """Whether it can stay, perhaps without some of what is in it."""
    for inner, within in _sections(value, kind):
        if not isinstance(inner, dict):
            break
        _check_section(shape, inner, within[0], place + within[1])
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        shape.faults.append(_wrong(str(error), kind, place))
        return False
    return True


def _sections(value: Any, kind: Any) -> Iterator[tuple[Any, tuple[Any, str]]]:
    """The sections that a value is or holds: (what stands there, (its type, its place from the value on))."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield value, (kind, "")
    elif origin in (list, dict) and issubclass(arguments[-1], msgspec.Struct):
        if origin is list and isinstance(value, list):
            for number, each in enumerate(value):
                yield each, (arguments[-1], f"[{number}]")
        elif origin is dict and isinstance(value, dict):
            for name, each in value.items():
                yield each, (arguments[-1], f'."{name}"')


def _unknown(name: str, found: dict[str, Any], names: list[str], section: str) -> Fault:
    """A name that does not exist, with the one that may be meant: here, else in another section."""
    prefix = f"{section}." if section else ""
    what = "section" if isinstance(found[name], dict) else "setting"
    close = difflib.get_close_matches(name, names, 1)
    likely = prefix + close[0] if close else _elsewhere(name)
    hint = f"; did you mean {likely}?" if likely else ""
    if likely and not close and "." not in likely:
        hint = f"; {likely} stands above all sections"
    meant = likely if close and close[0] not in found else ""
    return Fault(prefix + name, f"there is no such {what}{hint}", meant)


def _elsewhere(name: str) -> str:
    """The place of a setting of this name, "" where there is none or are several."""
    found = []
    for each in msgspec.structs.fields(Config):
        if each.encode_name == name:
            found.append(name)
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            inner = (setting.encode_name for setting in msgspec.structs.fields(each.type))
            found += [f"{each.encode_name}.{name}" for setting in inner if setting == name]
    return found[0] if len(found) == 1 else ""


def _wrong(text: str, kind: Any, place: str) -> Fault:
    """msgspec says: Expected `int`, got `str` - at `$[0]`."""
    message, _, within = text.partition(" - at `$")
    if get_origin(kind) is Literal:
        message = f"must be {' or '.join(map(json.dumps, get_args(kind)))}"
    elif get_origin(kind) is list and not within and get_args(kind)[0] is not str:
        each = msgspec.structs.fields(get_args(kind)[0])
        example = ", ".join(f'{setting.encode_name} = "..."' for setting in each)
        message = f"must be a list like [{{ {example} }}]"
    elif expected := _EXPECTED.match(message):
        message = f"must be {_IN_WORDS.get(expected[1], expected[1])}"
    return Fault(place + within.rstrip("`"), message)

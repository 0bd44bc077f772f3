import pytest

from pillarbox.mime.build import format_field
from pillarbox.mime.header import decode_header


def test_short_field() -> None:
    assert format_field("Subject", "tea") == b"Subject: tea\r\n"
    assert format_field("Subject", "") == b"Subject:\r\n"
    assert format_field("Subject", "ä") == b"Subject: =?utf-8?B?w6Q=?=\r\n"


@pytest.mark.parametrize(
    "value", ["word " * 60, "ä" * 200, "Grüße aus Köln und  Umgebung " * 9, "=?utf-8?Q?x?=", "日本語 " * 50]
)  # fmt: skip
def test_long_values_fold_and_come_back(value: str) -> None:
    field = format_field("X-Long", value)
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    assert all(line.startswith(b" ") for line in field.split(b"\r\n")[1:-1])
    assert field.isascii()
    assert decode_header(field.partition(b":")[2]) == value.strip()


@pytest.mark.parametrize("value", ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\0b"])
def test_no_field_can_be_smuggled_in(value: str) -> None:
    with pytest.raises(ValueError):
        format_field("Subject", value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        format_field(name, "x")

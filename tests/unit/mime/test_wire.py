import pytest

from pillarbox.mime.wire import MAX_QUOTED, nstring, string


@pytest.mark.parametrize(
    ("octets", "wire"),
    [
        (b"", b'""'),
        (b"a b\t", b'"a b\t"'),
        (b'a"b\\', b'"a\\"b\\\\"'),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"a\0b", b"{3}\r\na\x80b"),
        (b"\xff", b"{1}\r\n\xff"),
        (b"x" * MAX_QUOTED, b'"' + b"x" * MAX_QUOTED + b'"'),
        (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_only_short_seven_bit_text_is_quoted(octets: bytes, wire: bytes) -> None:
    assert string(octets) == wire


def test_absent_is_nil_and_empty_is_not() -> None:
    assert nstring(None) == b"NIL"
    assert nstring(b"") == b'""'

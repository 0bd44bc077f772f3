import pytest

from pillarbox.mime.parameters import (
    MAX_PARAMETERS,
    find_parameter,
    parse_content_type,
    parse_disposition,
)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (b"text/plain", (b"text", b"plain", [])),
        (b"Text/HTML; Charset=UTF-8", (b"text", b"html", [(b"charset", b"UTF-8")])),
        (b"text/plain; charset=us-ascii (Plain text)", (b"text", b"plain", [(b"charset", b"us-ascii")])),
        (b'a/b; x="q;\\"=" ; y = z', (b"a", b"b", [(b"x", b'q;"='), (b"y", b"z")])),
        (b"a/b; name=my file.pdf; x=1", (b"a", b"b", [(b"name", b"my file.pdf"), (b"x", b"1")])),
        (b"a/b;; x=1;", (b"a", b"b", [(b"x", b"1")])),
        (b"a/b; x=1; X=2", (b"a", b"b", [(b"x", b"1")])),
        (b'a/b; x="open', (b"a", b"b", [(b"x", b"open")])),
        # RFC 2231 §3, §4.1
        (b'a/b; URL*0="ftp://"; URL*1="cs.utk.edu"', (b"a", b"b", [(b"url", b"ftp://cs.utk.edu")])),
        (
            b"a/b; t*0*=us-ascii'en'This%20is; t*1*=%20fun; t*2=\"isn't it!\"",
            (b"a", b"b", [(b"t*", b"us-ascii'en'This%20is%20funisn%27t%20it!")]),
        ),
        (b"a/b; t*1=x; t*0=y", (b"a", b"b", [(b"t", b"yx")])),
        (b"a/b; t*1=x", (b"a", b"b", [])),
        (b"a/b; t*=utf-8''%c3%a4", (b"a", b"b", [(b"t*", b"utf-8''%c3%a4")])),
        (b"text", None),
        (b"", None),
        (b"text/", None),
        (b"a b/c", None),
    ],
)  # fmt: skip
def test_content_type(value: bytes, parsed: object) -> None:
    assert parse_content_type(value) == parsed


def test_extended_value_is_decoded_to_utf_8() -> None:
    assert find_parameter([(b"filename*", b"iso-8859-1''%e4%20b")], b"filename") == "ä b".encode()
    assert find_parameter([(b"filename*", b"broken")], b"filename") == b""
    assert find_parameter([], b"filename") is None


def test_disposition() -> None:
    assert parse_disposition(b'Attachment; filename="a.txt"') == (
        b"attachment",
        [(b"filename", b"a.txt")],
    )
    assert parse_disposition(b";") is None


def test_the_number_of_parameters_is_bounded() -> None:
    parsed = parse_content_type(b"a/b" + b"".join(b";p%d=x" % n for n in range(500)))
    assert parsed is not None
    assert len(parsed[2]) == MAX_PARAMETERS

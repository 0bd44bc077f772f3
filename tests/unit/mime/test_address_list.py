import pytest

from pillarbox.mime.address_list import MAX_ADDRESSES, parse_address_list


def entries(raw: bytes) -> list[tuple[bytes | None, ...]]:
    return [(e.name, e.adl, e.mailbox, e.host) for e in parse_address_list(raw)]


GROUP_END = (None, None, None, None)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a@b.example", [(None, None, b"a", b"b.example")]),
        (b"<a@b>", [(None, None, b"a", b"b")]),
        (b"Mary Smith <mary@x.test>", [(b"Mary Smith", None, b"mary", b"x.test")]),
        (b'"Joe Q. Public" <j@e.com>', [(b"Joe Q. Public", None, b"j", b"e.com")]),
        (b"Joe Q. Public <j@e.com>", [(b"Joe Q. Public", None, b"j", b"e.com")]),
        (
            b'"Giant; \\"Big\\" Box" <sysservices@example.net>',
            [(b'Giant; "Big" Box', None, b"sysservices", b"example.net")],
        ),
        (
            b"A Group:Ed Jones <c@a.test>,joe@where.test;",
            [
                (None, None, b"A Group", None),
                (b"Ed Jones", None, b"c", b"a.test"),
                (None, None, b"joe", b"where.test"),
                GROUP_END,
            ],
        ),
        (b"Undisclosed recipients:;", [(None, None, b"Undisclosed recipients", None), GROUP_END]),
        (b"a:b@c", [(None, None, b"a", None), (None, None, b"b", b"c"), GROUP_END]),
        # RFC 5322 Appendix A.5, A.6.1, A.6.3
        (
            b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [(b"Pete", None, b"pete", b"silly.test")],
        ),
        (
            b"Mary Smith <@node.test,@x.test:mary@example.net>, , jdoe@test  . example",
            [
                (b"Mary Smith", b"@node.test,@x.test", b"mary", b"example.net"),
                (None, None, b"jdoe", b"test.example"),
            ],
        ),
        (b"john . doe @ example.org", [(None, None, b"john.doe", b"example.org")]),
        (b'"john doe"@example.org', [(None, None, b"john doe", b"example.org")]),
        (b"j@example.org (John Doe)", [(b"John Doe", None, b"j", b"example.org")]),
        (b"j@[192.0.2.1]", [(None, None, b"j", b"[192.0.2.1]")]),
        # not in any RFC, but in the mail
        (b"John Doe john@example.org", [(b"John Doe", None, b"john", b"example.org")]),
        (b"A <a@b> C <c@d>", [(b"A", None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"nobody", [(None, None, b"nobody", b"")]),
        (b"Name <>", [(b"Name", None, b"", b"")]),
        (b"<a@b", [(None, None, b"a", b"b")]),
        (b'"open <a@b>', [(None, None, b"open <a@b>", b"")]),
        (b"=?utf-8?Q?=C3=A4?= <a@b>", [(b"=?utf-8?Q?=C3=A4?=", None, b"a", b"b")]),
        ("Jürg <jürg@example.org>".encode(), [("Jürg".encode(), None, "jürg".encode(), b"example.org")]),
        (b"", []),
        (b" ,, ;", []),
    ],
)  # fmt: skip
def test_address_structures(raw: bytes, expected: list[tuple[bytes | None, ...]]) -> None:
    assert entries(raw) == expected


@pytest.mark.parametrize("unit", [b"a@b,", b"A. B <a@b>,", b"a:", b"<a@b>", b"g:a@b;"])
def test_the_number_of_entries_is_bounded(unit: bytes) -> None:
    assert len(parse_address_list(unit * 5000)) <= MAX_ADDRESSES + 2

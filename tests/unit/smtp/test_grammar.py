"""Paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2, §4.1.3)."""

import time

import pytest

from pillarbox.core.address import Address
from pillarbox.smtp import reply as replies
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS
from pillarbox.smtp.grammar import PathArgument, parse_hello, parse_mail, parse_rcpt
from pillarbox.smtp.reply import Reply


def mail(argument: bytes) -> PathArgument | Reply:
    return parse_mail(argument, MAIL_PARAMETERS)


def rcpt(argument: bytes) -> PathArgument | Reply:
    return parse_rcpt(argument, RCPT_PARAMETERS)


def code(outcome: PathArgument | Reply) -> str:
    assert isinstance(outcome, Reply)
    return f"{outcome.code} {outcome.enhanced}"


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        (b"<a@b>", "a", "b"),
        (b"<User.Name+tag@Example.COM>", "User.Name+tag", "example.com"),
        (b"<!#$%&'*+-/=?^_`{|}~@x-1.example>", "!#$%&'*+-/=?^_`{|}~", "x-1.example"),
        (b'<"a b"@example.com>', "a b", "example.com"),
        (b'<"a\\"b\\\\c"@example.com>', 'a"b\\c', "example.com"),
        (b'<"abc"@example.com>', "abc", "example.com"),
        (b'<""@example.com>', "", "example.com"),
        (b'<"a@b>c"@example.com>', "a@b>c", "example.com"),
        (b"<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
        (b"<a@[IPv6:2001:db8::1]>", "a", "[ipv6:2001:db8::1]"),
        (b"<a@[IPv6:::ffff:192.0.2.1]>", "a", "[ipv6:::ffff:192.0.2.1]"),
        (b"<@one.example,@two.example:user@three.example>", "user", "three.example"),
        (b" <a@b>", "a", "b"),
        (b"<" + b"l" * 64 + b"@" + b"d" * 63 + b">", "l" * 64, "d" * 63),
    ],
)
def test_mailboxes(path: bytes, local: str, domain: str) -> None:
    for outcome in (mail(b"FROM:" + path), rcpt(b"TO:" + path), rcpt(b"tO:" + path)):
        assert isinstance(outcome, PathArgument)
        assert outcome.address == Address(local, domain)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a@b",
        b"<a@b",
        b"a@b>",
        b"<a>",
        b"<@b>",
        b"<a@>",
        b"<.a@b>",
        b"<a.@b>",
        b"<a..b@c>",
        b"<a b@c>",
        b"<a@b.>",
        b"<a@.b>",
        b"<a@b..c>",
        b"<a@-b>",
        b"<a@b->",
        b"<a@b_c>",
        b"<a@b@c>",
        b'<"a@b>',
        b'<"a"b@c>',
        b'<"a\0"@c>',
        b"<a\x01@c>",
        b"<a@[192.0.2.256]>",
        b"<a@[192.0.2]>",
        b"<a@[2001:db8::1]>",
        b"<a@[IPv6:2001:db8:::1]>",
        b"<a@[IPv6:fe80::1%eth0]>",
        b"<a@[x-tag:content]>",
        b"<a@[]>",
        b"<@one.example:>",
        b"<@one.example user@b>",
        b"<one.example:user@b>",
        b"<" + b"l" * 65 + b"@b>",
        b"<a@" + b"d" * 64 + b">",
        b"<a@" + b".".join([b"d" * 50] * 6) + b">",
        b"<@" + b".".join([b"d" * 50] * 4) + b":" + b"l" * 60 + b"@b>",
        b"  <a@b>",
    ],
)
def test_malformed_paths_are_501(path: bytes) -> None:
    assert code(mail(b"FROM:" + path)) == "501 5.1.7"
    assert code(rcpt(b"TO:" + path)) == "501 5.1.3"


def test_the_longest_path_is_256_octets() -> None:
    host = b".".join([b"d" * 61] * 4)  # 247
    path = b"<" + b"l" * 6 + b"@" + host + b">"
    assert len(path) == 256
    assert isinstance(mail(b"FROM: " + path), PathArgument)
    assert code(mail(b"FROM:<l" + path[1:])) == "501 5.1.7"


def test_null_path_is_for_mail_only() -> None:
    assert mail(b"FROM:<>") == PathArgument(None, "", {})
    assert code(rcpt(b"TO:<>")) == "501 5.1.3"


@pytest.mark.parametrize("name", [b"postmaster", b"Postmaster", b"POSTMASTER"])
def test_postmaster_without_domain_is_for_rcpt_only(name: bytes) -> None:
    expected = PathArgument(Address("postmaster", ""), name.decode(), {})
    assert rcpt(b"TO:<" + name + b">") == expected
    assert code(mail(b"FROM:<" + name + b">")) == "501 5.1.7"


def test_raw_keeps_case_and_quotes_but_no_route() -> None:
    outcome = rcpt(b'TO:<@hop.example:"A"@Example.ORG>')
    assert isinstance(outcome, PathArgument)
    assert outcome.raw == '"A"@Example.ORG'


def test_non_ascii_addresses_need_smtputf8() -> None:
    """RFC 6531 §3.5"""
    assert code(mail("FROM:<jürgen@example.com>".encode())) == "550 5.6.7"
    assert code(rcpt("TO:<a@bücher.example>".encode())) == "553 5.6.7"
    assert code(rcpt(b"TO:<a@b> ORCPT=utf-8;j\xc3\xb6@x")) == "501 5.5.4"


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        ("jürgen@example.com", "jürgen", "example.com"),
        ("用户@例え.jp", "用户", "例え.jp"),
        ('"j ü"@BÜCHER.example', "j ü", "bücher.example"),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
        ("üü.ü@[192.0.2.1]", "üü.ü", "[192.0.2.1]"),
    ],
)
def test_with_smtputf8_addresses_are_unicode(path: str, local: str, domain: str) -> None:
    """RFC 6531 §3.3"""
    for outcome in (
        mail(f"FROM:<{path}> SMTPUTF8".encode()),
        parse_rcpt(f"TO:<{path}> ORCPT=utf-8;jö@x".encode(), RCPT_PARAMETERS, utf8=True),
    ):
        assert isinstance(outcome, PathArgument)
        assert outcome.address == Address(local, domain)
        assert outcome.raw == path


@pytest.mark.parametrize(
    "path",
    [
        b"a\xff@b",
        b"\xc3@b",
        "a\u0085b@x".encode(),
        "ü@.bücher.example".encode(),
        "ü@bü..example".encode(),
        "ü@ü\u2028.example".encode(),
        "ü ü@x".encode(),
        ("ü" * 33 + "@x").encode(),
        ("a@" + "ü" * 64 + ".example").encode(),
    ],
)
def test_what_is_no_unicode_address_is_501(path: bytes) -> None:
    assert code(mail(b"FROM:<%b> SMTPUTF8" % path)) == "501 5.1.7"
    outcome = parse_rcpt(b"TO:<%b>" % path, RCPT_PARAMETERS, utf8=True)
    assert code(outcome) == "501 5.1.3"


def test_smtputf8_has_no_value() -> None:
    """RFC 6531 §3.4"""
    assert code(mail(b"FROM:<a@b> SMTPUTF8=1")) == "501 5.5.4"
    assert code(rcpt(b"TO:<a@b> SMTPUTF8")) == "555 5.5.4"


@pytest.mark.parametrize("argument", [b"<a@b>", b"FROM <a@b>", b"FROM :<a@b>", b"TO:<a@b>"])
def test_mail_needs_from_and_colon(argument: bytes) -> None:
    assert code(mail(argument)) == "501 5.5.4"


def test_rcpt_needs_to_and_colon() -> None:
    assert code(rcpt(b"FROM:<a@b>")) == "501 5.5.4"


def test_parameters() -> None:
    outcome = mail(b"FROM:<a@b> size=100  Body=8bitMIME AUTH=e+3Dmc2@example.com")
    assert isinstance(outcome, PathArgument)
    assert outcome.parameters == {
        "SIZE": "100",
        "BODY": "8bitMIME",
        "AUTH": "e+3Dmc2@example.com",
    }
    assert isinstance(mail(b"FROM:<> AUTH=<>"), PathArgument)


@pytest.mark.parametrize(
    "parameters",
    [
        b"SIZE=1",
        b" SIZE",
        b" SIZE=",
        b" SIZE=-1",
        b" SIZE=x",
        b" SIZE=123456789012345678901",
        b" SIZE=1 SIZE=1",
        b" BODY=9BIT",
        b" BODY",
        b" AUTH=+3d",
        b" AUTH=a+",
        b" =x",
        b" SIZE==1",
        b" -A=1",
        b" \xff",
    ],
)
def test_bad_parameters_are_501(parameters: bytes) -> None:
    assert code(mail(b"FROM:<a@b>" + parameters)) == "501 5.5.4"


def test_unknown_parameters_are_555() -> None:
    assert mail(b"FROM:<a@b> DELIVERBY=9") is replies.UNKNOWN_PARAMETER
    assert rcpt(b"TO:<a@b> SIZE=1") is replies.UNKNOWN_PARAMETER


@pytest.mark.parametrize(
    ("argument", "domain"),
    [
        (b"client.example", "client.example"),
        (b"my_pc", "my_pc"),
        (b"[192.0.2.1]", "[192.0.2.1]"),
        (b"[192.0.2.1] and more", "[192.0.2.1]"),
        (b"x" * 255, "x" * 255),
        (b"x" * 256, None),
        (b"a\0", None),
        (b"\xff", None),
        (b" a", None),
    ],
)
def test_hello_takes_odd_names(argument: bytes, domain: str | None) -> None:
    assert parse_hello(argument) == domain


@pytest.mark.parametrize(
    "argument",
    [
        b"FROM:<" + b"a" * 2000,
        b"FROM:<" + b"a." * 1000,
        b"FROM:<" + b"@a," * 700,
        b"FROM:<@" + b"a.a-" * 500,
        b"FROM:<a@" + b"a-" * 1000,
        b"FROM:<a@" + b"aa." * 660,
        b'FROM:<"' + b"\\" * 2000,
        b'FROM:<"' + b'\\"' * 1000,
        b"FROM:<a@[" + b"1." * 1000,
        b"FROM:<a@b> " + b"A=1 " * 500,
        b"FROM:<a@b> AUTH=" + b"+" * 2000,
    ],
)
def test_parsing_takes_linear_time(argument: bytes) -> None:
    start = time.thread_time()
    for _ in range(10):
        assert isinstance(mail(argument), Reply)
    assert time.thread_time() - start < 0.1


# DSN (RFC 3461 §4)


@pytest.mark.parametrize("value", [b"FULL", b"hdrs"])
def test_ret_is_full_or_hdrs_in_any_case(value: bytes) -> None:
    outcome = mail(b"FROM:<a@b> RET=" + value)
    assert isinstance(outcome, PathArgument)
    assert outcome.parameters == {"RET": value.decode()}


def test_envid_is_xtext_of_at_most_100_characters() -> None:
    for good in (b"QQ314159", b"a+2Bb+3Dc+20d", b"x" * 100):
        outcome = mail(b"FROM:<a@b> ENVID=" + good)
        assert isinstance(outcome, PathArgument)
        assert outcome.parameters["ENVID"] == good.decode()
    for bad in (b"", b"=a", b"a+b", b"a+2b", b"a+0A", b"a+FF", b"a+7F", b"x" * 101):
        assert code(mail(b"FROM:<a@b> ENVID=" + bad)) == "501 5.5.4"


@pytest.mark.parametrize(
    "value", [b"NEVER", b"never", b"SUCCESS", b"FAILURE,DELAY", b"success,Failure,DELAY"]
)
def test_notify_is_never_or_a_list(value: bytes) -> None:
    outcome = rcpt(b"TO:<a@b> NOTIFY=" + value)
    assert isinstance(outcome, PathArgument)
    assert outcome.parameters == {"NOTIFY": value.decode()}


@pytest.mark.parametrize(
    "value",
    [
        b"NOTIFY",
        b"NOTIFY=",
        b"NOTIFY=NEVER,SUCCESS",
        b"NOTIFY=SUCCESS,NEVER",
        b"NOTIFY=SUCCESS,",
        b"NOTIFY=,DELAY",
        b"NOTIFY=ALWAYS",
        b"NOTIFY=SUCCESS NOTIFY=DELAY",
        b"ORCPT=",
        b"ORCPT=a@b",
        b"ORCPT=rfc822;",
        b"ORCPT=;a@b",
        b"ORCPT=rfc822;a+zz",
        b"ORCPT=rfc822;a+0D+0Ab",
        b"ORCPT=rfc822;a ORCPT=rfc822;a",
        b"ORCPT=rfc822;" + b"x" * 494,
    ],
)
def test_bad_wishes_are_501_never_ignored(value: bytes) -> None:
    assert code(rcpt(b"TO:<a@b> " + value)) == "501 5.5.4"


def test_orcpt_keeps_case_and_takes_500_characters() -> None:
    longest = b"rfc822;" + b"x" * 493
    for good in (b"rfc822;Bob+2Bx@Dept.example", b"X400;/C+3Dde/S+3Dmax", longest):
        outcome = rcpt(b"TO:<a@b> NOTIFY=DELAY ORCPT=" + good)
        assert isinstance(outcome, PathArgument)
        assert outcome.parameters["ORCPT"] == good.decode()


def test_mail_and_rcpt_do_not_take_each_others_wishes() -> None:
    assert code(mail(b"FROM:<a@b> NOTIFY=NEVER")) == "555 5.5.4"
    assert code(rcpt(b"TO:<a@b> RET=FULL")) == "555 5.5.4"

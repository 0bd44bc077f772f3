"""Any octets are a message; what is rendered of them is valid IMAP; CPython's parser sees the same tree."""

import itertools
import re
from binascii import b2a_base64, b2a_qp
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from pathlib import Path
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillarbox.mime import address_list, date
from pillarbox.mime.address_list import parse_address_list
from pillarbox.mime.build import format_field
from pillarbox.mime.date import parse_date
from pillarbox.mime.decode import part_text, search_text
from pillarbox.mime.header import decode_header, header_end, select_fields, split_header, unfold
from pillarbox.mime.message import Message as Parsed
from pillarbox.mime.message import Part, parse_message
from pillarbox.mime.parts import find_part
from pillarbox.mime.transfer import TransferDecoder, decode_transfer

few = settings(max_examples=100, deadline=None)
VECTORS = Path(__file__).parents[2].parent / "shared" / "vectors"

# --- a checker of IMAP wire forms (RFC 3501 §9) ---

_WIRE_TOKEN = re.compile(
    rb'(?P<open>\()|(?P<close>\))|"(?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*"'
    rb"|\{(?P<literal>\d+)\}\r\n|NIL(?![A-Za-z])|\d+|(?P<space> )"
)


def parse_wire(octets: bytes) -> list:
    """Nested lists of strings, numbers and None; fails on what is not valid."""
    stack: list[list] = [[]]
    position = 0
    spaced = True
    while position < len(octets):
        match = _WIRE_TOKEN.match(octets, position)
        assert match is not None, octets[position : position + 40]
        position = match.end()
        if match["space"]:
            assert not spaced
            spaced = True
            continue
        if match["open"]:
            stack.append([])
            spaced = True
            continue
        if match["close"]:
            done = stack.pop()
            assert done
            stack[-1].append(done)
        else:
            assert spaced
            token = match[0]
            if match["literal"]:
                end = position + int(match["literal"])
                assert end <= len(octets)
                token, position = octets[position:end], end
                assert b"\0" not in token
                stack[-1].append(token)
            elif token == b"NIL":
                stack[-1].append(None)
            else:
                stack[-1].append(int(token) if token.isdigit() else token)
        spaced = False
    assert len(stack) == 1
    assert len(stack[0]) == 1
    return stack[0][0]


def check_envelope(envelope: list) -> None:
    assert len(envelope) == 10
    for value in envelope[:2] + envelope[8:]:
        assert value is None or isinstance(value, bytes)
    for addresses in envelope[2:8]:
        in_group = False
        for _, _, mailbox, host in addresses or []:
            if host is None:
                assert in_group == (mailbox is None)
                in_group = not in_group
        assert not in_group


def check_structure(body: list, *, extended: bool) -> None:
    if isinstance(body[0], list):
        parts = next(n for n, item in enumerate(body) if not isinstance(item, list))
        for part in body[:parts]:
            check_structure(part, extended=extended)
        assert isinstance(body[parts], bytes)
        assert len(body) == parts + (5 if extended else 1)
        return
    kind, subtype = body[0].lower(), body[1].lower()
    assert body[2] is None or len(body[2]) % 2 == 0
    assert isinstance(body[5], bytes)
    assert isinstance(body[6], int)
    basic = 7
    if kind == b'"text"':
        assert isinstance(body[7], int)
        basic = 8
    elif kind == b'"message"' and subtype in (b'"rfc822"', b'"global"'):
        check_envelope(body[7])
        check_structure(body[8], extended=extended)
        assert isinstance(body[9], int)
        basic = 10
    assert len(body) == basic + (4 if extended else 0)


def check_spans(part: Part, body: bytes) -> None:
    assert part.header_start <= part.body_start <= part.end
    assert part.lines == body.count(b"\n", part.body_start, part.end)
    previous = part.body_start
    for child in part.children:
        assert previous <= child.header_start
        assert child.end <= part.end
        previous = child.end
        check_spans(child, body)


def check_numbers(message: Parsed) -> None:
    """Every part is found by its number, and by its number only."""
    if not message.parts:
        return
    waiting = [(message.root, (), False)]
    while waiting:
        part, numbers, is_numbered = waiting.pop()
        if part.is_multipart:
            waiting += [(child, (*numbers, n), True) for n, child in enumerate(part.children, 1)]
            assert find_part(message.parts, (*numbers, len(part.children) + 1)) is None
        elif not is_numbered:
            numbers = (*numbers, 1)
        if part.is_message:
            waiting.append((part.children[0], numbers, False))
        elif not part.is_multipart:
            assert find_part(message.parts, (*numbers, 1)) is None
        span = find_part(message.parts, numbers)
        assert span is not None
        if is_numbered or not part.is_multipart:
            assert (span.header_start, span.body_start, span.end) == (
                part.header_start,
                part.body_start,
                part.end,
            )


def check(octets: bytes) -> Parsed:
    message = parse_message(octets)
    check_envelope(parse_wire(message.envelope))
    check_structure(parse_wire(message.body), extended=False)
    check_structure(parse_wire(message.bodystructure), extended=True)
    check_spans(message.root, octets[message.header_size :])
    check_numbers(message)
    assert message.root.header_start == -message.header_size
    assert message.root.end == len(octets) - message.header_size
    for name, start, end in message.fields:
        assert octets[start:end].lower().startswith(name)
        assert end <= message.header_size
    assert len(message.preview) <= 200
    for text in (message.preview, message.keys.base_subject, message.keys.from_key):
        text.encode()
    search_text(octets, message.root).encode()
    return message


# --- anything goes ---

FRAGMENTS = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"\n\n",
            b" ",
            b"\t",
            b"\0",
            b"\xff",
            b"\xc3\xa4",
            b"\\",
        ),
        *(
            b'"',
            b"(",
            b")",
            b"<",
            b">",
            b"@",
            b",",
            b";",
            b":",
            b".",
            b"[",
            b"]",
            b"=",
            b"a",
            b"b",
            b"x y",
        ),
        *(b"--b", b"\r\n--b\r\n", b"\n--b--\n", b"\r\n--c\r\n", b"--c--", b"Content-Type:"),
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b'content-type: multipart/digest; boundary="c"\n',
        *(
            b"Content-Type: message/rfc822\r\n\r\n",
            b"Content-Type: message/global\n\n",
            b"multipart/mixed",
        ),
        *(
            b"Content-Type: text/html; charset=utf-7\r\n\r\n",
            b"<!-- <p> &#55296;",
            b"+2AA-",
            b"text/html",
        ),
        *(
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Disposition: ",
            b"Content-ID:",
            b"attachment",
        ),
        *(b"Content-Language: ", b"boundary", b"; charset=", b"*0*=", b"*1=", b"''%41"),
        *(
            b"From: ",
            b"To: ",
            b"Cc: ",
            b"Subject: Re: ",
            b"[fwd: ",
            b"Date: 1 Jan ",
            b"2024 1:",
            b"References: ",
        ),
        *(
            b"=?utf-8?Q?=C3?=",
            b"=?iso-2022-jp?B?GyRC?=",
            b"Message-ID: <a@b>",
            b"In-Reply-To:",
            b"Sender: ",
        ),
    ]
)
SOUP = st.lists(FRAGMENTS | st.binary(max_size=8), max_size=40).map(b"".join)


@few
@given(st.binary(max_size=300) | SOUP)
@example(b"")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\r\n\r\n--b--")
def test_any_octets_are_a_message(octets: bytes) -> None:
    check(octets)


@given(st.lists(st.sampled_from((b"\r\n", b"\r", b"\n", b" ", b"\t", b"a"))).map(b"".join))
@example(b"a\r\n b\n c")
@example(b"a\r\nb\n c")
def test_only_line_ends_before_white_space_are_unfolded(raw: bytes) -> None:
    """RFC 5322 §2.2.3"""
    assert unfold(raw) == re.sub(rb"\r?\n(?=[ \t])", b"", raw.strip(b" \t\r\n"))


@few
@given(SOUP)
def test_any_octets_are_values(octets: bytes) -> None:
    decode_header(octets).encode()
    parse_address_list(octets)
    parse_date(octets)
    assert 0 <= header_end(octets) <= len(octets)
    names = {name for name, _, _ in split_header(octets)}
    assert b"".join(select_fields(octets, frozenset(names), invert=True)) == b"\r\n"


@few
@given(SOUP.map(lambda octets: octets.replace(b"\r", b"")))
def test_line_ends_change_nothing_but_lengths(octets: bytes) -> None:
    def names(part: Part) -> list:
        return [part.type, part.subtype, part.lines, [names(child) for child in part.children]]

    crlf = parse_message(octets.replace(b"\n", b"\r\n"))
    assert names(parse_message(octets).root) == names(crlf.root)


# --- the short ways agree with the long ones ---

ADDRESS_WORD = st.sampled_from(
    [
        *(
            b"a",
            b"b.c",
            b"Joe",
            b"=?utf-8?Q?x?=",
            b'"A, B"',
            b'" q "',
            b'""',
            b"<a@b.example>",
            b"<a.b@c>",
        ),
        *(
            b"c@d.example",
            b",",
            b" ",
            b"  ",
            b".",
            b"@",
            b"<",
            b">",
            b"\xc3\xa4",
            b"(c)",
            b"g:",
            b";",
            b'"',
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ADDRESS_WORD, max_size=8).map(b"".join))
def test_usual_addresses_are_what_the_tolerant_parser_says(raw: bytes) -> None:
    assert parse_address_list(raw) == address_list._parse_tolerant(raw)


@few
@given(
    st.sampled_from([b"", b"Mon, ", b"Xyz, "]),
    st.integers(0, 32),
    st.sampled_from([b"Jan", b"Feb", b"Dec"]),
    st.integers(0, 9999),
    st.tuples(st.integers(0, 24), st.integers(0, 60), st.integers(0, 61)),
    st.sampled_from([b"+0000", b"-0730", b"+2359", b"-2400", b"+0060"]),
    st.sampled_from([b"", b" (CET)"]),
)
def test_usual_dates_are_what_the_tolerant_parser_says(
    weekday: bytes, day: int, month: bytes, year: int, time: tuple[int, int, int], zone: bytes, comment: bytes
) -> None:  # fmt: skip
    raw = b"%b%d %b %04d %02d:%02d:%02d %b%b" % (weekday, day, month, year, *time, zone, comment)
    assert parse_date(raw) == date._parse_tolerant(raw)


@few
@given(st.text(max_size=150))
def test_written_fields_read_back(value: str) -> None:
    try:
        field = format_field("X-Test", value)
    except ValueError:
        return
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    written = value.replace("\t", " ").strip(" ").encode("utf-8", "replace").decode()
    assert decode_header(field.partition(b":")[2]) == written


# --- CPython's email package sees the same ---

LINE = st.text(st.sampled_from("abc äé€日- .\t"), max_size=30)
TEXT = st.lists(LINE, min_size=1, max_size=5).map("\n".join)


@st.composite
def messages(draw: st.DrawFn, depth: int = 3) -> EmailMessage:
    message = EmailMessage(policy=policy.SMTP)
    kind = draw(
        st.sampled_from(["text", "html", "binary", "multipart", "message"][: 5 if depth else 3])
    )
    if kind in ("text", "html"):
        cte = draw(st.sampled_from(["base64", "quoted-printable", "8bit"]))
        subtype = "plain" if kind == "text" else "html"
        message.set_content(draw(TEXT), subtype=subtype, cte=cte)
    elif kind == "binary":
        message.set_content(draw(st.binary(max_size=50)), "application", "octet-stream")
    elif kind == "message":
        message.set_content(draw(messages(depth - 1)))
    else:
        message.add_header(
            "Content-Type", f"multipart/{draw(st.sampled_from(['mixed', 'alternative']))}"
        )
        for part in draw(st.lists(messages(depth - 1), min_size=1, max_size=3)):
            message.attach(part)
    if depth == 3:
        message["Subject"] = draw(LINE).strip()
    return message  # fmt: skip


def cpython_shape(message: Message) -> list:
    payload = message.get_payload()
    children = [cpython_shape(child) for child in payload] if isinstance(payload, list) else []
    return [message.get_content_type(), children]


def our_shape(part: Part) -> list:
    return [f"{part.type.decode()}/{part.subtype.decode()}", [our_shape(child) for child in part.children]]  # fmt: skip


@few
@given(messages())
def test_generated_messages_are_what_cpython_sees(generated: EmailMessage) -> None:
    octets = generated.as_bytes()
    theirs = BytesParser(policy=policy.default).parsebytes(octets)
    ours = check(octets)
    assert our_shape(ours.root) == cpython_shape(theirs)
    subject = octets[: ours.header_size]
    spans = {name: (start, end) for name, start, end in ours.fields}
    start, end = spans[b"subject"]
    assert decode_header(subject[start + 8 : end]) == theirs["subject"].strip()
    pairs = [(ours.root, theirs)]
    while pairs:
        part, their_part = pairs.pop()
        if part.children:
            pairs += zip(part.children, their_part.get_payload(), strict=True)
        elif part.type == b"text":
            body = octets[ours.header_size + part.body_start : ours.header_size + part.end]
            charset = their_part.get_content_charset("us-ascii")
            assert part_text(body, part) == their_part.get_payload(decode=True).decode(charset)


# --- messages of other projects ---


def vectors(pattern: str) -> list:
    found = sorted(VECTORS.glob(pattern))
    if not found:
        return [
            pytest.param(None, marks=pytest.mark.skip(reason=f"no ../shared/vectors/{pattern}"))
        ]
    return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in found]


DIFFERENT = {
    "msg_15": "inner multipart with the boundary of the outer",
    "msg_16": "message/delivery-status holds no message",
    "msg_17": "multipart without parts",
    "msg_25": "multipart without a boundary",
    "msg_31": "multipart without parts",
    "msg_36": "message/external-body holds no message",
    "msg_37": "delimiter lines with nothing between them",
    "msg_39": "inner multipart with the boundary of the outer",
    "msg_41": "multipart without a boundary",
    "msg_42": "multipart without parts",
    "msg_43": "message/delivery-status holds no message",
}
"""Where RFC 3501, or better sense, wants another tree than CPython gives, and why."""


@pytest.mark.parametrize("path", vectors("email-cpython/msg_*.txt"))
def test_messages_of_the_email_package(path: Path) -> None:
    octets = path.read_bytes()
    ours = check(octets)
    check(octets.replace(b"\n", b"\r\n"))
    if path.stem in DIFFERENT:
        return
    theirs = BytesParser(policy=policy.compat32).parsebytes(octets)
    assert our_shape(ours.root) == cpython_shape(theirs)


@pytest.mark.parametrize("path", vectors("mime-mail-parser/*/*.eml"))
def test_messages_of_mail_parser(path: Path) -> None:
    octets = path.read_bytes()
    check(octets)
    check(re.sub(rb"\r?\n", b"\r\n", octets))


# --- time ---

N = 60_000
HOSTILE = {
    "nested multiparts": lambda n: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(n // 40)
    ),
    "nested messages": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * (n // 30),
    "flat": lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * (n // 5),
    "no blank lines": lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\nA:\n" * (n // 7),
    "dashes": lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"\n--" * (n // 3),
    "fields": lambda n: b"A: b\r\n" * (n // 6),
    "to fields": lambda n: b"To: b\r\n" * (n // 7),
    "junk": lambda n: b"x" * n,
    "folding": lambda n: b"Subject:" + b"\n x" * (n // 3),
    "replies": lambda n: b"Subject: " + b"re:[a]" * (n // 6),
    "blobs": lambda n: b"Subject: " + b"[a]" * (n // 3),
    "trailers": lambda n: b"Subject: " + b"(fwd)" * (n // 5),
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?a?=" * (n // 13),
    "open words": lambda n: b"Subject: " + b"=?a?q?" * (n // 6),
    "quotes": lambda n: b"To: " + b'"' * n,
    "parentheses": lambda n: b"To: " + b"(" * n,
    "angles": lambda n: b"To: " + b"<" * n,
    "route": lambda n: b"To: <@" + b"a," * (n // 2),
    "dots": lambda n: b"To: " + b"a . " * (n // 4) + b"@b",
    "parameters": lambda n: b"Content-Type: a/b" + b";a=b" * (n // 4),
    "sections": lambda n: b"Content-Type: a/b" + b"".join(b";a*%d=b" % i for i in range(n // 8)),
    "ids": lambda n: b"References: " + b"<a@" * (n // 3),
    "date": lambda n: b"Date: " + b"1 " * (n // 2),
    "comments": lambda n: b"Content-Type: text/html\n\n" + b"<!--" * (n // 4),
    "styles": lambda n: b"Content-Type: text/html\n\n" + b"<style></style " * (n // 15),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_linear_in_the_size(name: str) -> None:
    def best_of_three(octets: bytes) -> float:
        times = []
        for _ in range(3):
            start = process_time()
            parse_message(octets)
            times.append(process_time() - start)
        return min(times)

    small, large = HOSTILE[name](N), HOSTILE[name](2 * N)
    check(small)
    assert best_of_three(large) < 4 * best_of_three(small) + 0.005


@given(
    st.binary(max_size=300),
    st.sampled_from([b"base64", b"quoted-printable", b"7bit"]),
    st.lists(st.integers(0, 500), max_size=6),
    st.booleans(),
)
def test_a_transfer_encoding_is_decoded_alike_however_it_is_cut(
    octets: bytes, encoding: bytes, cuts: list[int], is_encoded: bool
) -> None:
    wire = octets
    if is_encoded:
        wire = {b"base64": b2a_base64, b"quoted-printable": b2a_qp}.get(encoding, bytes)(octets)
    whole = TransferDecoder(encoding)
    expected = whole.feed(wire) + whole.finish()
    if is_encoded:
        assert expected == decode_transfer(wire, encoding)
    cut = TransferDecoder(encoding)
    bounds = sorted({0, len(wire), *(place for place in cuts if place < len(wire))})
    pieces = [cut.feed(wire[start:end]) for start, end in itertools.pairwise(bounds)]
    assert b"".join(pieces) + cut.finish() == expected

"""ENVELOPE, BODYSTRUCTURE and BODY[...] are those of Dovecot on the message vectors, but for what docs/compat.md has.

Dovecot runs as one process on pipes, logged in already. Each message is appended to both with CRLF line ends; what both
answer is compared as values: a quoted string and a literal are the same, and so are the cases of what has none.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

DOVECOT = Path("/usr/lib/dovecot/imap")
VECTORS = next(
    (
        folder / "shared" / "vectors"
        for folder in Path(__file__).parents
        if (folder / "shared" / "vectors").is_dir()
    ),
    Path("none"),
)
PATTERNS = ("email-cpython/msg_*.txt", "mime-mail-parser/*/*.eml", "dkim-chasquid/*.msg")

_PARTS = ("1", "2", "3", "1.1", "1.2", "2.1", "2.2", "2.1.1")
SECTIONS = ("HEADER", "TEXT", *_PARTS)
SECTIONS += tuple(f"{part}.MIME" for part in _PARTS[:6])
SECTIONS += ("1.HEADER", "1.TEXT", "2.HEADER", "2.TEXT")
ITEMS = {
    "ENVELOPE": "ENVELOPE",
    "BODYSTRUCTURE": "BODYSTRUCTURE",
    "BODY": "BODY",
    "RFC822.SIZE": "RFC822.SIZE",
    "BODY[]": "BODY.PEEK[]",
    "BODY[HEADER.FIELDS]": "BODY.PEEK[HEADER.FIELDS (From Subject Content-Type X-Mailer)]",
    "BODY[HEADER.FIELDS.NOT]": "BODY.PEEK[HEADER.FIELDS.NOT (Received From)]",
    **{f"BODY[{section}]": f"BODY.PEEK[{section}]" for section in SECTIONS},
}

Value = bytes | int | None | list["Value"]


class Imap:
    """The one command after the other, over two streams."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing
        self._number = 0
        self._reading.readline()

    def command(self, text: bytes) -> list[bytes]:
        """Untagged responses with their literals, then the tagged one."""
        self._number += 1
        tag = b"t%d " % self._number
        self._writing.write(tag + text + b"\r\n")
        self._writing.flush()
        found = []
        while True:
            response = self._response()
            found.append(response)
            if response.startswith(tag):
                return found

    def _response(self) -> bytes:
        line = self._reading.readline()
        assert line, "the server has gone"
        while match := re.search(rb"\{(\d+)\}\r\n\Z", line):
            line += self._reading.read(int(match[1]))
            line += self._reading.readline()
        return line

    def look(self, message: bytes) -> dict[str, Value]:
        """What it says of a message, which is the only one of INBOX for the moment."""
        (*_, answer) = self.command(b"APPEND INBOX {%d+}\r\n%b" % (len(message), message))
        assert b" OK" in answer, answer
        self.command(b"SELECT INBOX")
        found = {}
        for name, item in ITEMS.items():
            *responses, answer = self.command(b"FETCH 1 (%b)" % item.encode())
            assert b" OK" in answer, (item, answer)
            (response,) = [each for each in responses if b" FETCH (" in each]
            found[name] = value_of(response)
        self.command(b"STORE 1:* +FLAGS.SILENT (\\Deleted)")
        self.command(b"EXPUNGE")
        return found


def value_of(response: bytes) -> Value:
    """The value in a FETCH response with one item."""
    start = response.index(b"(") + 1
    section = re.compile(rb"BODY\[[^\]]*\] |[A-Z0-9.]+ ").match(response, start)
    assert section is not None, response
    return parse(response, section.end())[0]


def parse(octets: bytes, place: int) -> tuple[Value, int]:
    """The value at a place, and where it ends."""
    if octets[place : place + 1] == b"(":
        members: list[Value] = []
        place += 1
        while octets[place : place + 1] != b")":
            if octets[place : place + 1] == b" ":
                place += 1
            member, place = parse(octets, place)
            members.append(member)
        return members, place + 1
    if octets[place : place + 1] == b'"':
        match = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(octets, place)
        assert match is not None
        return re.sub(rb"\\(.)", rb"\1", match[1]), match.end()
    if match := re.compile(rb"\{(\d+)\}\r\n").match(octets, place):
        end = match.end() + int(match[1])
        return octets[match.end() : end], end
    match = re.compile(rb"[^() \r\n]+").match(octets, place)
    assert match is not None, octets[place : place + 80]
    word = match[0]
    return (None if word == b"NIL" else int(word) if word.isdigit() else word), match.end()


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Imap]:
    if not DOVECOT.exists():
        pytest.skip("Dovecot is not installed (make interop-deps)")
    folder = Path(tempfile.mkdtemp(prefix="dovecot"))
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:  # it refuses to read mail as root
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        os.chown(folder, uid, gid)
    (folder / "dovecot.conf").write_text(
        f"protocols = imap\nbase_dir = {folder}/run\nstate_dir = {folder}/state\n"
        f"log_path = {folder}/log\nmail_location = maildir:{folder}/mail\nssl = no\n"
        f"mail_uid = {uid}\nmail_gid = {gid}\nfirst_valid_uid = 0\nfirst_valid_gid = 0\n"
    )
    process = subprocess.Popen(
        [DOVECOT, "-c", str(folder / "dovecot.conf")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"USER": "vectors", "HOME": str(folder)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Imap(process.stdout, process.stdin)
    finally:
        process.stdin.close()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ours(user) -> Iterator[Imap]:
    with socket.create_connection((user.server.host, user.port("imap", "plain")), 10) as connection:
        stream = connection.makefile("rwb")
        imap = Imap(stream, stream)
        (*_, answer) = imap.command(f'LOGIN {user.address} "{user.password}"'.encode())
        assert b" OK" in answer
        yield imap


EXPLAINED = {
    "email-cpython/msg_25.txt": "a multipart without boundary",
    "email-cpython/msg_41.txt": "a multipart without boundary",
    "email-cpython/msg_29.txt": "a parameter in sections, some of them encoded",
    "email-cpython/msg_33.txt": "an encoded boundary",
    "mime-mail-parser/legacy/049.eml": "a CR at the end",
    "mime-mail-parser/malformed/004.eml": "a boundary that begins another line",
    "mime-mail-parser/malformed/007.eml": "a boundary that begins another line",
    "mime-mail-parser/malformed/016.eml": "a boundary that begins another line",
    "mime-mail-parser/malformed/019.eml": "two Date fields",
    "mime-mail-parser/rfc/001.eml": "a parameter's value with spaces, without quotes",
    "mime-mail-parser/rfc/009.eml": "an address that is only a name",
}
"""Messages whose differences are one of a kind, by the name that docs/compat.md has for it."""


# What differs, by rule: the same list as in docs/compat.md, "Where Dovecot says something else"


def alike(mine: Value, theirs: Value) -> bool:
    """Whether two values mean the same, but for what differs by rule."""
    if isinstance(mine, list) and isinstance(theirs, list):
        if is_text(mine) and theirs[:2] == [b"", b""]:
            return True  # a Content-Type that is none: RFC 2045 §5.2 has a default for it
        if is_address(mine) and is_address(theirs):
            return address_of(mine) == address_of(theirs)
        if is_text(mine) and is_text(theirs) and has_no_charset(mine[2]):
            theirs = [*theirs[:2], added(theirs), *theirs[3:]]
        return len(mine) == len(theirs) and all(map(alike, mine, theirs))
    if isinstance(mine, bytes) and isinstance(theirs, bytes):
        return folded(mine) == folded(theirs)
    return mine == theirs


def folded(text: bytes) -> bytes:
    """RFC 5322 §2.2.3: unfolding keeps the white space; Dovecot makes one space of it. Cases: RFC 2045 §5.1, §6.1."""
    return re.sub(rb"[ \t]+", b" ", text).strip().lower()


def is_text(body: list[Value]) -> bool:
    return len(body) >= 7 and isinstance(body[0], bytes) and body[0].lower() == b"text"


def has_no_charset(parameters: Value) -> bool:
    names = parameters[::2] if isinstance(parameters, list) else []
    return not any(isinstance(name, bytes) and name.lower() == b"charset" for name in names)


def added(body: list[Value]) -> Value:
    """The parameters without the charset that Dovecot adds to text that has none."""
    parameters = body[2]
    if isinstance(parameters, list) and parameters[-2:] == [b"charset", b"us-ascii"]:
        return parameters[:-2] or None
    return parameters


def is_address(value: list[Value]) -> bool:
    return len(value) == 4 and all(part is None or isinstance(part, bytes) for part in value)


def address_of(value: list[Value]) -> list[Value]:
    """Without the words that Dovecot has for what is missing; we say "" (RFC 9051 §7.5.2: NIL is for groups)."""
    return [
        None if part in (b"", b"MISSING_DOMAIN", b"MISSING_MAILBOX") else part for part in value
    ]


def explain(name: str, mine: Value, theirs: Value, structure: Value) -> bool:
    """Whether two values mean the same, or differ by rule."""
    if mine is None and name.startswith("BODY["):
        # RFC 9051 §6.4.5: only messages that are not multipart have a part 1 of themselves, parts do not
        return theirs == b"" or not has_part(structure, re.findall(r"\d+", name))
    if name == "BODY[HEADER.FIELDS.NOT]" and isinstance(mine, bytes) and isinstance(theirs, bytes):
        # RFC 9051 §6.4.5: fields; Dovecot also gives lines that are none
        rest = iter(theirs.splitlines())
        return all(line in rest for line in mine.splitlines() if line)
    if re.search("HEADER|MIME", name) and isinstance(mine, bytes) and mine.endswith(b"\r\n"):
        # RFC 9051 §6.4.5: with the line end, also where the part has none
        return theirs in (mine, mine[:-2])
    if isinstance(mine, bytes):
        return mine == theirs
    return alike(mine, theirs)


def has_part(structure: Value, numbers: list[str]) -> bool:
    """Whether a BODYSTRUCTURE has a part."""
    body = structure
    for depth, number in enumerate(numbers):
        if not isinstance(body, list):
            return False
        if not isinstance(body[0], list):
            if depth and body[:2] == [b"message", b"rfc822"]:
                body = body[8]
                if isinstance(body, list) and not isinstance(body[0], list):
                    if number != "1":
                        return False
                    continue
            elif not depth and number == "1":
                continue
            else:
                return False
        assert isinstance(body, list)
        parts = [part for part in body if isinstance(part, list) and len(part) > 4]
        if int(number) > len(parts):
            return False
        body = parts[int(number) - 1]
    return True


def vectors() -> list[Path]:
    return sorted(path for pattern in PATTERNS for path in VECTORS.glob(pattern))


def test_what_clients_are_told_of_a_message_is_what_dovecot_tells(
    ours: Imap, dovecot: Imap
) -> None:
    if not vectors():
        pytest.skip("there are no message vectors in ../shared/vectors")
    unexplained = []
    for path in vectors():
        message = re.sub(rb"\r?\n", b"\r\n", path.read_bytes())
        if b"\0" in message:
            continue  # Dovecot takes none
        theirs = dovecot.look(message)
        mine = ours.look(message)
        for name in ITEMS:
            is_explained = str(path.relative_to(VECTORS)) in EXPLAINED
            if not is_explained and not explain(
                name, mine[name], theirs[name], mine["BODYSTRUCTURE"]
            ):
                unexplained.append(
                    f"{path.relative_to(VECTORS)} {name}:\n  {mine[name]!r}\n  {theirs[name]!r}"
                )
    assert not unexplained, f"{len(unexplained)} differences:\n" + "\n".join(unexplained)


def test_each_difference_is_explained_to_readers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "compat.md").read_text("utf-8")
    assert [kind for kind in EXPLAINED.values() if kind not in text] == []

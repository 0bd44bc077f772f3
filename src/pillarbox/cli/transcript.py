"""Sessions that were looked on at, as transcripts that `tests/transcripts/seed/replay.py` replays (its notation is told
in `smtp.txt` beside it).

What was masked is replaced by what works there: whoever logged in is USER with PASSWORD, each message is a short one,
and what is another each time (ids, numbers, dates) is a placeholder. STARTTLS and compression are left out, for
that is up to the runner. A session is whole only if it was seen from its beginning.
"""

import os
import re
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pillarbox.app.watching import Shown
from pillarbox.core.errors import Refused
from pillarbox.core.tally import PROTOCOL_OF
from pillarbox.core.words import counted

USER, PASSWORD, WRONG = "user@example.com", "password", "wrong-password"
STAND_IN = ("Subject: This stands for a message", "")
STAND_IN_OCTETS = sum(len(line) + 2 for line in STAND_IN)

MOST_FILES = 100
MOST_LINES = 20_000
"""Of one session; it is cut off there."""

NO_COMMAND = "X-NO-COMMAND"
_LITERAL = re.compile(r"\{(\d+)(\+?)\}$")
_NUMBER = re.compile(r"\d+")
_LEFT_OUT = ("STARTTLS", "STLS", "COMPRESS")
_VARYING_CAPABILITIES = ("STARTTLS", "AUTH", "STLS", "SASL", "USER", "SIZE", "XCLIENT", "EXPIRE")
"""Of SMTP and POP3: another runner, or another configuration, has others."""

_UNTAGGED = (
    (re.compile(r"\* \d+ FETCH .*"), "* {n} FETCH {text}"),
    (re.compile(r"\* (CAPABILITY) .*"), r"* \1 {superset IMAP4rev1}"),
    (re.compile(r"\* (SEARCH|ESEARCH|SORT|THREAD|NAMESPACE|ID|ENABLED).*"), r"* \1{text}"),
    (re.compile(r"\* (FLAGS|VANISHED|ACL|MYRIGHTS|METADATA|QUOTA|QUOTAROOT) .*"), r"* \1 {text}"),
    (re.compile(r"\* (LIST|LSUB) .* (\S+)"), r"* \1 {text} {quoted \2}"),
    (
        re.compile(r"\* (OK|NO|BYE|PREAUTH) \[(CAPABILITY) .*"),
        r"* \1 [\2 {superset IMAP4rev1}] {text}",
    ),
    (re.compile(r"\* (OK) \[(PERMANENTFLAGS|MAILBOXID) .*"), r"* \1 [\2 {text}"),
)
_MAY_BE_ABSENT = re.compile(r"\* OK \[UNSEEN .*")


class Transcripts:
    """All sessions that begin while we look on, each to a file."""

    def __init__(self, path: Path) -> None:
        """The first file is made at once. Raises Refused where that cannot be."""
        self._path = path
        self._count = 0
        self._sessions: dict[str, Transcript] = {}
        self._missed_first = 0
        self._first: IO[str] | None = self._make(path)

    def _make(self, path: Path) -> IO[str]:
        """For its owner only, since sessions have private things in them. It stays open: whoever owns the folder may
        put another thing in its place."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return open(os.open(path, flags, 0o600), "w", encoding="utf-8")
        except FileExistsError:
            raise Refused(f"{path} exists already: name another file to save to") from None
        except OSError as error:
            raise Refused(f"cannot write {path}: {error.strerror}; name another file") from error

    def add(self, shown: Shown) -> list[str]:
        """What there is to say of it."""
        if shown.missed:
            for each in self._sessions.values():
                each.is_whole = False
            return []
        key = shown.session
        if not shown.who and shown.text.startswith("connected to "):
            before = self._sessions.pop(key, None)  # of a worker that was killed
            self._sessions[key] = Transcript(shown)
            if before is None:
                return []
            before.is_whole = False
            return self._save(before)
        transcript = self._sessions.get(key)
        if transcript is None:
            self._missed_first += not shown.who and shown.text == "is open already"
            return []
        if not shown.who and shown.text == "closed":
            return self._save(self._sessions.pop(key))
        transcript.add(shown)
        return []

    def close(self) -> list[str]:
        """Save what is not over."""
        said = [text for each in self._sessions.values() for text in self._save(each)]
        self._sessions.clear()
        if self._missed_first:
            said.append(
                f"not saved: {counted(self._missed_first, 'session')} that had begun before"
            )
        if self._first is not None:
            self._first.close()
            self._path.unlink(missing_ok=True)
            said.append("no session began, so nothing was saved")
        return said

    def _save(self, transcript: "Transcript") -> list[str]:
        lines = transcript.lines()
        if self._count >= MOST_FILES:
            return []
        file, self._first = self._first, None
        path = self._path if file is not None else self._next_path()
        self._count += 1
        try:
            with file or self._make(path) as opened:
                opened.write("\n".join(lines) + "\n")
        except (Refused, OSError) as failure:
            return [f"a session was not saved: {failure}"]
        said = f"{path}: {transcript.service} session {transcript.session}, {counted(len(lines), 'line')}"
        return [said if transcript.is_whole else f"{said}; lines are missing in it"]

    def _next_path(self) -> Path:
        return self._path.with_name(f"{self._path.stem}-{self._count + 1}{self._path.suffix}")


class Transcript:
    """One session, as it comes."""

    def __init__(self, first: Shown) -> None:
        self.session, self.service = first.session, first.service
        self.is_whole = True
        self._protocol = PROTOCOL_OF.get(first.service, "smtp").replace("lmtp", "smtp")
        self._at = first.at
        self._lines: list[str] = []
        self._account = ""
        self._has_tls = first.tls
        self._group: list[str] = []  # what the server said in no order that counts
        self._command = ""  # the last one, in upper case
        self._tag = ""
        self._login = -1  # where the line of a login stands that is not answered yet
        self._literal = -1  # where a line stands whose literal has not come
        self._is_left_out = False  # the command is, and so are its answers
        self._is_vague = False  # the command could not be shown: any answer will do
        self._answers = 0  # lines since the command

    def lines(self) -> list[str]:
        """The file's."""
        at = datetime.fromtimestamp(self._at, UTC)
        head = [
            f"# pillarbox trace --save, {at:%Y-%m-%d %H:%M:%S} UTC: {self.service} session {self.session}",
            f'# Who logged in is {USER} with the password "{PASSWORD}" here, and each message a short one.',
        ]
        if self._has_tls:
            head.append("# It used TLS: replay it over TLS, or where logins without are allowed.")
        if not self.is_whole:
            head.append("# LINES ARE MISSING: it came too fast, or was too long.")
        return head + [self._renamed(line) for line in self._lines]

    def _renamed(self, line: str) -> str:
        if not self._account:
            return line
        return re.sub(re.escape(self._account), USER, line, flags=re.IGNORECASE)

    def add(self, shown: Shown) -> None:
        self._has_tls = self._has_tls or shown.tls
        self._account = shown.account or self._account
        if len(self._lines) > MOST_LINES:
            self.is_whole = False
        elif shown.who == "client":
            self._client(shown)
        elif shown.who == "server":
            self._server(_plain(shown.text))

    # The client

    def _client(self, shown: Shown) -> None:
        if self._protocol == "imap":
            self._group = []  # told between commands, as others made it so
        if shown.octets:
            self._message()
            return
        text = _plain(shown.text)
        if self._login >= 0 and shown.secret:
            return
        if self._literal >= 0:
            self._literal = -1
            self._say("C", text)
            self._await_literal(text)
            return
        self._begin(text)

    def _begin(self, text: str) -> None:
        """A command."""
        self._answers = 0
        self._is_left_out = self._is_vague = False
        words = text.split(" ")
        if self._protocol == "imap" and len(words) > 1 and not text.startswith("<"):
            self._tag, words = words[0], words[1:]
        self._command = words[0].upper()
        if self._command in _LEFT_OUT:
            self._is_left_out = True
        elif text.startswith("<"):
            self._is_vague = True
            self._tag = "zz"
            self._say("C", f"zz {NO_COMMAND}" if self._protocol == "imap" else NO_COMMAND)
        elif self._command in ("LOGIN", "AUTH", "AUTHENTICATE", "PASS"):
            self._login = len(self._lines)
            self._say("C", self._format_login(PASSWORD))
        elif self._command == "USER" and self._protocol == "pop3":
            self._say("C", f"USER {USER}")
        elif self._command == "BDAT":
            self._chunk(words)
        else:
            self._say("C", text)
            self._await_literal(text)

    def _format_login(self, password: str) -> str:
        if self._command == "PASS":
            return f"PASS {password}"
        tag = f"{self._tag} " if self._protocol == "imap" else ""
        if self._command == "LOGIN":
            return f"{tag}LOGIN {USER} {password}"
        response = b64encode(f"\0{USER}\0{password}".encode()).decode()
        return f"{tag}{self._command} PLAIN {response}"

    def _await_literal(self, text: str) -> None:
        if self._protocol == "imap" and _LITERAL.search(text):
            self._literal = len(self._lines) - 1

    def _message(self) -> None:
        if self._protocol == "imap":
            if self._literal >= 0:
                self._size_literal(STAND_IN_OCTETS)
                for line in STAND_IN:
                    self._say("C", line)
        elif self._command != "BDAT":
            for line in (*STAND_IN, "."):
                self._say("C", line)
            self._answers = 0

    def _chunk(self, words: list[str]) -> None:
        """RFC 3030 §2: its octets come whatever is answered."""
        is_empty = len(words) > 1 and words[1] == "0"
        octets = 0 if is_empty else STAND_IN_OCTETS
        self._say("C", " ".join(["BDAT", str(octets), *words[2:]]))
        for line in () if is_empty else STAND_IN:
            self._say("C", line)

    def _size_literal(self, octets: int) -> None:
        line = self._lines[self._literal]
        self._lines[self._literal] = _LITERAL.sub(rf"{{{octets}\2}}", line)

    # The server

    def _server(self, text: str) -> None:
        self._answers += 1
        if self._login >= 0 and not self._end_login(text):
            return
        if self._is_left_out and not text.startswith("* "):
            return
        if self._protocol == "imap":
            self._server_imap(text)
        elif self._protocol == "pop3":
            self._server_pop3(text)
        else:
            self._server_smtp(text)

    def _end_login(self, text: str) -> bool:
        """Whether this is what came of a login, and not a challenge."""
        if text.startswith(("334", "+ ", "* ")) or text == "+":
            return False
        worked = text.startswith(("235", "+OK")) or f"{self._tag} OK" == text[: len(self._tag) + 3]
        if not worked:
            self._lines[self._login] = f"C: {self._format_login(WRONG)}"
            # Other refusals had causes that are not here.
            self._is_vague = not text.startswith(("535", "-ERR [AUTH]", f"{self._tag} NO [AUTHENT"))
        self._login = -1
        return True

    def _server_smtp(self, text: str) -> None:
        if self._is_vague:
            self._say("S", "{text}")
        elif self._command in ("EHLO", "LHLO") and text.startswith("250"):
            word = text[4:].split(" ")[0]
            if self._answers > 1 and word not in _VARYING_CAPABILITIES:
                self._say("S>", f"250{{more}}{text[4:]}")
        elif text.startswith("220 ") and not self._command:
            self._say("S", "220 {text}")
        elif self._command == "HELO":
            self._say("S", f"{text[:4]}{{text}}")
        else:
            text = re.sub(r"queued as \S+", "queued as {id}", text)
            self._say("S", re.sub(r"(?<!\d)\d+ octets", "{n} octets", text))

    def _server_pop3(self, text: str) -> None:
        if self._is_vague:
            self._say("S", "{text}")
        elif self._answers == 1 or not self._command:
            self._say("S", _NUMBER.sub("{n}", text))
        elif text == ".":
            self._say("S", ".")
        elif self._command == "CAPA":
            if text.split(" ")[0] not in _VARYING_CAPABILITIES:
                self._say("S>", text)
        else:
            self._say("S>", "{n} {text}" if self._command in ("LIST", "UIDL") else "{text}")

    def _server_imap(self, text: str) -> None:
        if text.startswith("* ") and not (self._answers == 1 and not self._command):
            general = _general(text)
            if general and general not in self._group:
                self._group.append(general)
            return
        if self._literal >= 0 and not text.startswith("+ "):
            self._end_literal()
        for line in self._group:
            self._say("S>", line)
        self._group = []
        if self._is_vague:
            self._say("S", "{text}")
        elif text.startswith("* "):
            self._say("S", _general(text))
        elif text.startswith("+ "):
            self._say("S", text)
        else:
            tag, _, rest = text.partition(" ")
            code = re.sub(r"\[CAPABILITY [^\]]*\]", "[CAPABILITY {text}]", rest)
            self._say("S", f"{tag} {_NUMBER.sub('{n}', code)}")

    def _end_literal(self) -> None:
        """It was refused. One that does not synchronise comes all the same, to be skipped (RFC 7888 §4)."""
        if "+" in self._lines[self._literal][-2:]:
            self._size_literal(0)
            self._lines.insert(self._literal + 1, "C: ")
        self._literal = -1

    def _say(self, who: str, text: str) -> None:
        self._lines.append(f"{who} {text}" if who == "S>" else f"{who}: {text}")


def _general(text: str) -> str:
    """An untagged response, as it may come another time; "": it may not come then."""
    if _MAY_BE_ABSENT.fullmatch(text):
        return ""
    for pattern, general in _UNTAGGED:
        if (found := pattern.fullmatch(text)) is not None:
            return found.expand(general)
    return _NUMBER.sub("{n}", text)


def _plain(text: str) -> str:
    """In one line of a file: what would end it is "?"."""
    return (
        text
        if len(text.splitlines()) < 2 and text.isprintable()
        else re.sub(r"[^ -~\xa1-\uffff]|[\u2028\u2029]", "?", text)
    )

"""pillarbox sendmail: the command that programs call to send mail, with the options that they have used for decades.

It only leaves the message in the drop folder, so it works whether the server runs or not; recipients that turn out to
be wrong come back as a bounce. Exit codes are those of sysexits.h, since that is what callers look at.
"""

import getopt
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

import click

from pillarbox.app import rights
from pillarbox.app.data_folder import ensure_ours
from pillarbox.cli.options import act_as_server, config_option, read_config
from pillarbox.cli.queue import retry_all, show_queue
from pillarbox.cli.sendmail_smtp import speak_smtp
from pillarbox.config.schema import Config
from pillarbox.core.errors import Failure, Refused
from pillarbox.dsn.wishes import encode_xtext
from pillarbox.mime.address_list import parse_address_list
from pillarbox.mime.header import header_end, split_header, unfold
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.store import drop
from pillarbox.store.outgoing_row import Selection

EX_USAGE = 64
EX_DATAERR = 65
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78

_WITH_VALUE = "B:C:F:L:N:O:R:V:X:b:f:h:o:p:r:"
_WITHOUT = "AGUimntv"

_RECIPIENT_FIELDS = (b"to", b"cc", b"bcc")


class Exit(Exception):
    """The end of the command, with a reason for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Call:
    """What the command line asks for."""

    mode: str = "m"
    """m: send a message; s: speak SMTP; p: show the queue; q: retry it; i: nothing (there is no alias file to read)."""
    from_header: bool = False
    dot_ends: bool = True
    envelope: drop.Dropped = field(default_factory=lambda: drop.Dropped([]))


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    short_help="Send a message from standard input.",
    epilog="Example: pillarbox sendmail -t -i < message.eml",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@config_option
def sendmail(arguments: Sequence[str]) -> None:
    """Send a message from standard input, as programs expect of /usr/sbin/sendmail.

    \b
    -t            recipients from To, Cc and Bcc, besides those named
    -i, -oi       a line with only a dot does not end the message
    -f ADDRESS    the sender (also -r); only trusted users may name another than themselves
    -F NAME       the full name, for a message without From
    -N WHEN       when to be told: never, or success,failure,delay
    -R WHAT       what a bounce returns: full or hdrs
    -V ENVID      an id that bounces repeat
    -bs           speak SMTP on standard input and output
    -bp           show the queue
    -q            without recipients: try again now what waits in the queue, once

    Other options of the classic command are taken and do nothing. The server need not run.
    """
    try:
        _run(arguments)
    except Exit as end:
        _end(end.code, str(end))
    except Failure as failure:
        _end(EX_CONFIG if isinstance(failure, Refused) else EX_TEMPFAIL, failure.text)
    except OSError as error:
        _end(EX_TEMPFAIL, f"{error.filename or 'error'}: {error.strerror}")


def _end(code: int, text: str) -> NoReturn:
    print(f"sendmail: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> None:
    call = parse_arguments(arguments)
    if call.mode == "i":
        return
    config = read_config(as_server=False)
    if not config.sendmail.drop_dir:
        act_as_server(config)  # only the server's user reads what is left there
    if call.mode == "p":
        show_queue(Selection(), as_json=False)
        return
    if call.mode == "q":
        retry_all(config)
        return
    try:
        if call.mode == "s":
            _ensure_may_send_as(config, call.envelope.sender)
            speak_smtp(config, _folder(config), _is_trusted(config))
        else:
            _send(config, call, sys.stdin.buffer)
    except PermissionError as error:
        raise Exit(EX_NOPERM, _why_shut(config, error)) from error
    except FileNotFoundError as error:
        text = f"there is no folder {config.drop_path} yet: the start of the server makes it"
        raise Exit(EX_TEMPFAIL, text) from error


def _why_shut(config: Config, error: PermissionError) -> str:
    text = f"{error.filename}: {error.strerror}"
    if config.sendmail.drop_dir:
        return f"{text}; the start of the server lets all users leave mail there"
    return (
        f"{text}; only root and the server's user may leave mail there: see drop_dir in [sendmail]"
    )


def parse_arguments(arguments: Sequence[str]) -> Call:
    """Raises Exit."""
    # -q and -d may stand alone or with a value behind them, which means nothing here.
    known = [each for each in arguments if each[:2] not in ("-q", "-d")]
    try:
        options, names = getopt.gnu_getopt(known, _WITH_VALUE + _WITHOUT)
    except getopt.GetoptError as error:
        raise Exit(EX_USAGE, f"{error}; see pillarbox sendmail --help") from error
    call = Call()
    envelope = call.envelope
    envelope.recipients += [_address(name) for each in names for name in _split(each)]
    for option, value in options:
        match option:
            case "-b":
                call.mode = value
            case "-t":
                call.from_header = True
            case "-i":
                call.dot_ends = False
            case "-o" if value == "i":
                call.dot_ends = False
            case "-f" | "-r":
                envelope.sender = _sender(value)
            case "-F":
                envelope.name = value
            case "-N":
                envelope.notify = _notify(value)
            case "-R":
                envelope.ret = _one_of(value, "FULL", "HDRS")
            case "-V":
                envelope.envid = encode_xtext(value)
    if call.mode == "m" and not (envelope.recipients or call.from_header):
        call.mode = "q" if any(each.startswith("-q") for each in arguments) else "m"
    if call.mode not in ("m", "s", "p", "q", "i"):
        raise Exit(EX_USAGE, f"-b{call.mode} is not supported; see pillarbox sendmail --help")
    return call


def _notify(value: str) -> str:
    """RFC 3461 §4.1"""
    words = [_one_of(word, "NEVER", "SUCCESS", "FAILURE", "DELAY") for word in value.split(",")]
    if "NEVER" in words and len(words) > 1:
        raise Exit(EX_USAGE, "-N never stands alone")
    return ",".join(words)


def _one_of(value: str, *allowed: str) -> str:
    if value.upper() not in allowed:
        raise Exit(EX_USAGE, f'"{value}": must be one of {", ".join(allowed).lower()}')
    return value.upper()


def _sender(value: str) -> str:
    return "" if value.strip() in ("", "<>") else _address(value)


def _address(text: str) -> str:
    """One address, from "user@example.org", "<user@example.org>" or "Name <user@example.org>"."""
    found = addresses_in(text.encode("utf-8", "surrogateescape"))
    if len(found) != 1 or any(char <= " " for char in found[0]):
        raise Exit(EX_USAGE, f'"{text}" is not an address')
    return found[0]


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()] if '"' not in text else [text]


def addresses_in(value: bytes) -> list[str]:
    """The addresses of a list as "local@domain" or "local". Raises Exit where one is not UTF-8."""
    found = []
    for entry in parse_address_list(value):
        if entry.host is not None and entry.mailbox:
            address = entry.mailbox + (b"@" + entry.host if entry.host else b"")
            try:
                found.append(address.decode("utf-8"))
            except UnicodeDecodeError:
                raise Exit(EX_DATAERR, "an address is not UTF-8") from None
    return found


def _send(config: Config, call: Call, source: BinaryIO) -> None:
    envelope = call.envelope
    _ensure_may_send_as(config, envelope.sender)
    limit = config.smtp.max_message_size
    message = read_message(source, dot_ends=call.dot_ends, limit=limit)
    if len(message) > limit:
        raise Exit(EX_DATAERR, f"the message is larger than {limit} octets")
    if call.from_header:
        envelope.recipients += recipients_of(message)
    envelope.recipients = list(dict.fromkeys(envelope.recipients))
    if not envelope.recipients:
        where = "in To, Cc or Bcc" if call.from_header else "on the command line"
        raise Exit(EX_USAGE, f"no recipients {where}")
    drop.leave(_folder(config), envelope, message)


def _folder(config: Config) -> Path:
    folder = config.drop_path
    if not folder.exists() and os.geteuid() in (0, _owner(config)):
        ensure_ours(config)
        user = rights.server_user(config.user)
        rights.make_folder(config.data_path, user)
        rights.make_folder(folder, user)
        with rights.acting_as(user):
            drop.make_folder(folder, shared=bool(config.sendmail.drop_dir))
    return folder


def _owner(config: Config) -> int | None:
    """Who the server runs as, as far as its folder tells."""
    try:
        return config.data_path.stat().st_uid
    except OSError:
        return None


def _is_trusted(config: Config) -> bool:
    user = os.getuid()
    if user in (0, _owner(config)):
        return True
    try:
        return pwd.getpwuid(user).pw_name in config.sendmail.trusted_users
    except KeyError:
        return False


def _ensure_may_send_as(config: Config, sender: str | None) -> None:
    if sender is not None and not _is_trusted(config):
        raise Exit(
            EX_NOPERM, "only users in [sendmail] trusted_users may name a sender with -f or -r"
        )


def read_message(source: BinaryIO, *, dot_ends: bool, limit: int) -> bytes:
    """A message with CRLF line ends, from one with LF or CRLF; over `limit` octets, it may be cut somewhere behind.

    `dot_ends`: at a line that is a dot. A first line "From " of a mailbox file goes.
    """
    lines: list[bytes] = []
    size = 0
    for line in source:
        if dot_ends and line in (b".\n", b".\r\n", b"."):
            break
        if not lines and line.startswith((b"From ", b">From ")):
            continue
        lines.append(line)
        size += len(line)
        if size > limit:
            break
    normalizer = LineEndNormalizer()
    message = normalizer.feed(b"".join(lines)) + normalizer.finish()
    return message if not message or message.endswith(b"\r\n") else message + b"\r\n"


def recipients_of(message: bytes) -> list[str]:
    """Those of To, Cc and Bcc; of Resent-To, -Cc and -Bcc where there are any (RFC 5322 §3.6.6). Raises Exit."""
    block = message[: header_end(message)]
    values: dict[bytes, list[bytes]] = {}
    for name, start, end in split_header(block):
        values.setdefault(name, []).append(unfold(block[start:end].partition(b":")[2]))
    resent = [value for name in _RECIPIENT_FIELDS for value in values.get(b"resent-" + name, [])]
    usual = [value for name in _RECIPIENT_FIELDS for value in values.get(name, [])]
    return [address for value in resent or usual for address in addresses_in(value)]

"""`sendmail -bs`: SMTP on standard input and output, each message left in the drop folder (RFC 5321)."""

import sys
from pathlib import Path

from pillarbox.config.schema import Config
from pillarbox.core.address import canonical_domain
from pillarbox.core.engine import Wait
from pillarbox.smtp import reply as replies
from pillarbox.smtp.data import LineEndNormalizer
from pillarbox.smtp.events import BodyChunk, BodyEnd, DataStart, Hello, Mail, Rcpt
from pillarbox.smtp.options import ServerOptions
from pillarbox.smtp.server import SmtpServer
from pillarbox.store import drop

ACCEPTED = replies.Reply(250, "2.0.0", "Ok: left for the server")


class _Session:
    def __init__(self, config: Config, folder: Path, trusted: bool) -> None:
        self._folder = folder
        self._trusted = trusted
        self._envelope = drop.Dropped([])
        self._chunks: list[bytes] = []
        hostname = canonical_domain(config.hostname)
        self.engine = SmtpServer(ServerOptions(hostname, config.smtp.max_message_size))
        self.engine.send(replies.greeting(hostname))

    def handle(self, event: object) -> None:
        engine = self.engine
        match event:
            case Hello():
                engine.send(engine.hello_reply())
            case Mail():
                sender = "" if event.reverse_path is None else str(event.reverse_path)
                # Others send as themselves, whatever they say here; the server sees who they are.
                self._envelope = drop.Dropped([], sender if self._trusted else None)
                engine.send(replies.SENDER_OK)
            case Rcpt():
                self._envelope.recipients.append(str(event.forward_path))
                engine.send(replies.RECIPIENT_OK)
            case DataStart():
                self._chunks = []
                engine.send(replies.START_MAIL_INPUT)
            case BodyChunk():
                self._chunks.append(event.data)
            case BodyEnd():
                engine.send(replies.TOO_BIG if event.too_big else self._leave())

    def _leave(self) -> replies.Reply:
        try:
            drop.leave(self._folder, self._envelope, b"".join(self._chunks))
        except OSError:
            return replies.STORAGE_FULL
        return ACCEPTED


def speak_smtp(config: Config, folder: Path, trusted: bool) -> None:
    """Until QUIT or the end of the input; messages go into `folder`. Lines may end with LF: programs at a pipe send
    that."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    session = _Session(config, folder, trusted)
    engine = session.engine
    lines = LineEndNormalizer()
    while True:
        event = engine.next_event()
        if not isinstance(event, Wait):
            session.handle(event)
            continue
        target.writelines(engine.data_to_send())
        target.flush()
        if engine.closing:
            return
        line = source.readline(65536)
        if not line or (octets := lines.feed(line)):
            engine.receive(octets if line else b"")

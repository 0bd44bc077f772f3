"""What the server engine knows of the mail transaction of its peer (RFC 5321 §3.3, §4.1.4; RFC 3030 §2)."""

from dataclasses import dataclass

from pillarbox.smtp import reply as replies
from pillarbox.smtp.chunks import ChunkDecoder
from pillarbox.smtp.reply import Reply

BINARY = "BINARYMIME"
"""The value of BODY (RFC 3030 §3)."""


@dataclass(slots=True)
class Transaction:
    """From MAIL on; a new one takes its place when it is over."""

    is_open: bool = False
    recipients: int = 0
    """Accepted."""
    tried_recipients: bool = False
    body: str = ""
    """The value of BODY in upper case, "" without."""
    utf8: bool = False
    """MAIL had SMTPUTF8 (RFC 6531 §3.4)."""
    chunks: ChunkDecoder | None = None
    """From the first BDAT on."""
    failed: bool = False
    """It is over: a chunk was refused, and others may be under way already. Its recipients are still known."""

    def rcpt_problem(self, most_recipients: int) -> Reply | None:
        if self.chunks is not None:
            return replies.BAD_SEQUENCE
        self.tried_recipients = True
        # RFC 5321 §4.5.3.1.10
        return replies.TOO_MANY_RECIPIENTS if self.recipients >= most_recipients else None

    def data_problem(self, *, lmtp: bool = False) -> Reply | None:
        """RFC 5321 §3.3, RFC 2920 §3.2; RFC 2033 §4.2 wants 503 always."""
        if self.chunks is not None or self.body == BINARY:
            return replies.BDAT_ONLY  # RFC 3030 §2, §3
        if self.recipients:
            return None
        tried = self.tried_recipients and not lmtp
        return replies.NO_VALID_RECIPIENTS if tried else replies.RECIPIENT_FIRST

    def chunk_problem(self, size: int, size_limit_bytes: int) -> Reply | None:
        """`size` as BDAT declares it: what would pass the limit is refused before it comes."""
        if not self.is_open:
            return replies.MAIL_FIRST
        if not self.recipients:
            return replies.NO_VALID_RECIPIENTS if self.tried_recipients else replies.RECIPIENT_FIRST
        known = self.chunks.size if self.chunks is not None else 0
        return replies.TOO_BIG if known + size > size_limit_bytes else None

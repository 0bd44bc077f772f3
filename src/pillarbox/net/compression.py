"""DEFLATE between a protocol and TLS, or the network (RFC 4978).

What a peer sends is inflated a piece at a time, so a few octets that stand for gigabytes ("a bomb") fill no memory and
keep nobody waiting. The windows are small: some 100 KiB for a connection in all.
"""

import zlib
from collections import deque

PIECE_OCTETS = 64 * 1024
"""What one call of `receive` gives at most."""

SENT_OCTETS = 128 * 1024
"""What is compressed at a time: attachments take some 40 ms for a megabyte."""

_FED_OCTETS = 4096
"""What zlib is given at a time: it hands back a copy of what it does not take."""
_LEVEL = 1
_WINDOW_BITS = -13  # without a header; what we send
_MEMORY_LEVEL = 6
_PEER_WINDOW_BITS = -15  # whatever the peer uses


class CompressionLayer:
    """Both directions of one connection."""

    __slots__ = ("_deflate", "_inflate", "_input", "_is_full", "_position", "_unsent")

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
        self._inflate = zlib.decompressobj(_PEER_WINDOW_BITS)
        self._input = b""
        self._position = 0
        self._is_full = False  # whether the last piece was cut off
        self._unsent: deque[bytes] = deque()

    @property
    def has_more(self) -> bool:
        """Whether `receive(b"")` may give another piece."""
        return not self._inflate.eof and (self._is_full or self._position < len(self._input))

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the peer; returns the next piece of what they say. Raises zlib.error where they say nothing.

        Behind the end of the peer's stream (RFC 8437 §4.1) there is nothing more; see `rest`.
        """
        if octets:
            self._input = self._input[self._position :] + octets
            self._position = 0
        inflate = self._inflate
        if inflate.eof and len(self._input) > PIECE_OCTETS:
            raise zlib.error("too much behind the end of the stream")
        pieces: list[bytes] = []
        room = PIECE_OCTETS
        while room and not inflate.eof:
            fed = self._input[self._position : self._position + _FED_OCTETS]
            if not fed and not self._is_full and not pieces:
                break
            piece = inflate.decompress(fed, room)
            self._position += len(fed) - len(inflate.unconsumed_tail) - len(inflate.unused_data)
            room -= len(piece)
            self._is_full = not room
            if not fed and not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def is_behind(self) -> bool:
        """Whether `send([])` has more to give."""
        return bool(self._unsent)

    def send(self, parts: list[bytes]) -> bytes:
        """Octets for the peer, which it can read at once: of what was given so far, as much as takes some
        milliseconds."""
        self._unsent += parts
        if not self._unsent:
            return b""
        deflate = self._deflate
        out: list[bytes] = []
        room = SENT_OCTETS
        while self._unsent and room > 0:
            part = self._unsent.popleft()
            if len(part) > room:
                self._unsent.appendleft(part[room:])
                part = part[:room]
            room -= len(part)
            out.append(deflate.compress(part))
        out.append(deflate.flush(zlib.Z_SYNC_FLUSH))
        return b"".join(out)

    def finish(self) -> bytes:
        """The end of what is sent."""
        return self._deflate.flush(zlib.Z_FINISH)

    def rest(self) -> bytes | None:
        """What the peer sent behind the end of its stream, which is not compressed; None: within the stream there is
        more that was not yet given."""
        if self._inflate.eof:
            return self._input[self._position :]
        return None if self.has_more else b""

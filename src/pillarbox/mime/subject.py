"""The base subject for sorting and threading (RFC 5256 §2.1)."""

import re

MAX_SUBJECT = 4096
"""Characters of a subject that are examined."""

_BLOB = r"\[[^\[\]]*+\][ \t]*+"
# Not possessive where groups are repeated in a repeated group: Python up to 3.11.4 matches too little then. Nothing
# follows, so it never goes back over more than the blobs of one leader.
_LEADER = re.compile(rf"(?: |((?:{_BLOB})*(?:re|fwd?)[ \t]*+(?:{_BLOB})?:))+", re.I | re.A)
_BLOBS = re.compile(rf"(?:{_BLOB})++")
_SPACES = re.compile("[ \t]+")


def base_subject(subject: str) -> tuple[str, bool]:
    """The base subject of a decoded subject, in its own case, and whether it says reply or forward.

    `"Re: [list] Fwd: tea (fwd)"` -> `("tea", True)`.
    """
    base = _SPACES.sub(" ", subject[:MAX_SUBJECT])  # (1)
    is_reply = False
    while True:
        base, removed = _strip_trailers(base)  # (2)
        is_reply = is_reply or removed
        leader = _LEADER.match(base)  # (3)
        if leader is not None:
            is_reply = is_reply or leader[1] is not None
            base = base[leader.end() :]
        base = _strip_blobs(base)  # (4); no leader can follow, so (5) has nothing to repeat
        if not (base[:5].lower() == "[fwd:" and base.endswith("]")):  # (6)
            return base, is_reply
        base = base[5:-1]
        is_reply = True


def _strip_trailers(base: str) -> tuple[str, bool]:
    removed = False
    while True:
        base = base.rstrip(" ")
        if base[-5:].lower() != "(fwd)":
            return base, removed
        base = base[:-5]
        removed = True


def _strip_blobs(base: str) -> str:
    """Without the blobs in front, unless nothing else would be left: then the last one stays."""
    blobs = _BLOBS.match(base)
    if blobs is None:
        return base
    if blobs.end() < len(base):
        return base[blobs.end() :]
    return base[base.rindex("[") :]

"""What is compared, by the procedure of RFC 5255 §4.6 read plainly: strings whose charset is known and that are valid
in it by i;unicode-casemap (RFC 5051), all others by their octets, and behind those."""

import asyncio
import re
import tempfile
from array import array
from base64 import b64encode
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import tries
from tests.casemap import casemap

from pillarbox.imap.syntax_search import Key, SortKey
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.search import search
from pillarbox.imapd.selected import EMPTY
from pillarbox.imapd.sort import sort
from pillarbox.imapd.thread import thread
from pillarbox.mime import fold as fold_module
from pillarbox.mime.charset import decode_searched
from pillarbox.mime.fold import fold, has_folded, order_key
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

LETTERS = (
    "aAzZ sS\u00df\u1e9e\u017f kK\u212a iI\u0130\u0131 \u01c4\u01c5\u01c6\u01f1\u01f2\u01f3"
    "\ufb00\ufb01\ufb04\ufb05\ufb17 \u03c3\u03c2\u03a3 \u0390\u1f80\u1fb3\u1fbc\u1ffc\u0345"
    "\u0436\u0416\u0439\u0419 \u10d0\u1c90\u2d00 \u0561\u0587 \u00e9\u00c9\u00e5\u212b\u01d5"
    "\u0301\u0323\u0308\u0327\u0338 \uac00\ud55c\ud7a3\u1112\u1161\u11ab \uff21\uff41\uff76\uff9e"
    "\u05d0\u05b8\u0623\u064e\ufdfa \u0915\u093c\u0958 \u0e01\u0e33 \u65e5\u2f00\uf900 \u2460\u00bd"
    "\U0001d400\U00010428\U0001f600\U0010ffff"
)
letters = st.one_of(st.sampled_from(LETTERS), st.characters(exclude_categories=["Cs"]))
texts = st.text(letters, max_size=12)

# Those that Python decodes by the letter of their definition; None: nobody knows it.
CODECS = {
    b"utf-8": "utf-8", b"koi8-r": "koi8-r", b"iso-8859-1": "latin-1", b"windows-1253": "cp1253",
    b"us-ascii": "ascii", b"x-unknown": None,
}  # fmt: skip


@st.composite
def labelled(draw) -> tuple[bytes, bytes]:
    """Octets, and the charset that they are said to be in."""
    charset = draw(st.sampled_from(sorted(CODECS)))
    codec = CODECS[charset] or "utf-8"
    written = "utf-8" if draw(st.integers(0, 4)) == 0 else codec
    octets = draw(texts).encode(written, "ignore") + draw(
        st.sampled_from((b"", b"", b"", b"\xff", b"\xc3\xa9", b"\xd2"))
    )
    return octets, charset


def comparable(octets: bytes, charset: bytes) -> tuple[bool, bytes]:
    """What §4.6 sorts by: whether step (b) failed, and the octets that are then collated by i;octet."""
    codec = CODECS[charset]
    try:
        if codec is not None:
            return False, casemap(octets.decode(codec)).encode()
    except UnicodeDecodeError:
        pass
    return True, octets


@given(texts)
@settings(max_examples=tries(1000, 100_000), deadline=None)
def test_a_text_is_prepared_as_the_rfc_says(text: str) -> None:
    assert fold(text) == casemap(text)
    assert fold(text * 400) == casemap(text * 400)


marks = st.characters(categories=["Mn"], include_characters="\uff9e\uff9f")


@given(
    st.lists(st.one_of(texts, st.text(marks, max_size=12)), max_size=8),
    st.integers(1, 300),
    st.booleans(),
)
@settings(max_examples=tries(500, 20_000), deadline=None)
def test_runs_of_marks_are_put_in_order(found: list[str], times: int, is_careful: bool) -> None:
    """Whether they are looked for as they are in long texts, or taken for granted."""
    text = "".join([each * (times if number % 2 else 1) for number, each in enumerate(found)])
    with pytest.MonkeyPatch.context() as patch:
        if is_careful:
            patch.setattr(fold_module, "FOLDED_PIECE", 8)
            patch.setattr(fold_module, "_may_be_heaped", lambda text: True)
            patch.setattr(fold_module, "_SHORTEST_HEAP", 0)
        assert fold(text) == casemap(text)


@given(texts, texts, st.integers(0, 30), st.integers(0, 30), st.sampled_from((1, 5, 1 << 17)))
@settings(max_examples=tries(500, 20_000), deadline=None)
def test_a_long_text_is_searched_as_a_whole(
    text: str, other: str, start: int, length: int, at_once: int
) -> None:
    """RFC 5051 §2: substrings of what is prepared, wherever it is cut."""
    prepared = casemap(text + other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_module, "SEARCHED_AT_ONCE", at_once)
        patch.setattr(fold_module, "FOLDED_PIECE", 8)
        whole = fold(text + other)
        for wanted in (
            whole[start : start + length],
            prepared[start : start + length],
            fold(other),
        ):
            assert has_folded(text + other, wanted) == (wanted in whole)


@given(st.lists(texts, max_size=8))
@settings(max_examples=tries(300, 20_000), deadline=None)
def test_texts_are_in_the_order_of_their_octets(found: list[str]) -> None:
    in_order = sorted(found, key=lambda text: casemap(text).encode())
    assert sorted(found, key=order_key) == in_order
    for one in found:
        for other in found:
            assert (order_key(one) == order_key(other)) == (casemap(one) == casemap(other))


@given(st.lists(labelled(), min_size=1, max_size=8))
@settings(max_examples=tries(40, 1000), deadline=None)
def test_sort_and_thread_are_what_the_rfc_says(found: list[tuple[bytes, bytes]]) -> None:
    # A word in front keeps white space, and what looks like "Re:", from being taken away.
    found = [(b"x" + octets + b"x", charset) for octets, charset in found]

    async def run(folder: Path) -> None:
        store = Store(folder)
        try:
            for octets, charset in found:
                word = b"=?%b?b?%b?=" % (charset, b64encode(octets))
                head = b"Subject: %b\r\nFrom: %b <a@example.org>\r\n" % (word, word)
                await store.append(1, Append(1, make_content(head + b"\r\n"), 0))
            uids = array("I", range(1, len(found) + 1))

            async def pause() -> None:
                await asyncio.sleep(0)

            def context() -> SearchContext:
                return SearchContext(store, 1, 1, uids, lambda uid: False, EMPTY, pause)

            naive = sorted(uids, key=lambda uid: _base(*found[uid - 1]))
            assert list(await sort(context(), [SortKey("SUBJECT", False)], Key("ALL"))) == naive
            threads = sorted(
                list(group) for _, group in groupby(naive, lambda uid: _base(*found[uid - 1]))
            )
            (said,) = await thread(context(), "ORDEREDSUBJECT", Key("ALL"), None)
            assert said.lstrip() == b"".join(map(_formatted, threads))
            naive = sorted(uids, key=lambda uid: comparable(*found[uid - 1]))
            assert list(await sort(context(), [SortKey("DISPLAYFROM", False)], Key("ALL"))) == naive
            for octets, _ in found:
                # A search by i;octet finds the UTF-8 of its text, and we find that, too
                for wanted in {octets.decode("utf-8", "ignore"), octets.decode("ascii", "ignore")}:
                    by_rfc = {uid for uid in uids if _contains(wanted, *found[uid - 1])}
                    assert by_rfc <= set(await search(context(), Key("SUBJECT", wanted)))
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def _base(octets: bytes, charset: bytes) -> tuple[bool, bytes]:
    """Of the base subject: runs of spaces are one (RFC 5256 §2.1)."""
    return comparable(re.sub(rb"[ \t]+", b" ", octets), charset)


def _contains(wanted: str, octets: bytes, charset: bytes) -> bool:
    failed, prepared = comparable(octets, charset)
    return (wanted if failed else casemap(wanted)).encode() in prepared


def _formatted(uids: list[int]) -> bytes:
    """RFC 5256 §3: each child of the first one in its own brackets, if there are several."""
    first, *rest = (b"%d" % uid for uid in uids)
    if len(rest) < 2:
        return b"(%b)" % b" ".join([first, *rest])
    return b"(%b %b)" % (first, b"".join([b"(%b)" % uid for uid in rest]))


@given(texts, labelled())
@settings(max_examples=tries(500, 20_000), deadline=None)
def test_a_search_finds_what_is_there_by_octets(text: str, said: tuple[bytes, bytes]) -> None:
    """RFC 5255 §4.6 (c): where a text is in an unknown charset, or not valid in its own."""
    octets, charset = said
    inside = octets + b" " + text.encode() + b" " + octets
    failed, _ = comparable(inside, charset)
    if failed:
        assert f" {text} " in decode_searched(inside, charset)

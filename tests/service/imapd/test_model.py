"""2 to 4 sessions that do anything at all: each client's picture, kept from what it is told alone, equals the store
after NOOP (RFC 3501 §5.2, §7.4); a client that was away is resynchronised by CONDSTORE or QRESYNC
(RFC 7162 §3.1.4.1, §3.2.5), and one with NOTIFY knows what it was not told by any command, of its other mailbox, too
(RFC 5465 §5).

`SOAK_S` seconds of it by `make soak`; in the suite a fixed number of rounds with fixed seeds.
"""

import asyncio
import os
import random
import re
import time
from pathlib import Path

import pytest
from imap_harness import SIMPLE, Imap, Line, serving

from pillarbox.imap.seqset import format_seqset, parse_seqset
from pillarbox.store import changes, mailboxes, messages

SEEDS = range(6)
STEPS = 150
FLAGS = (b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Deleted", b"$one", b"$two")
MAILBOXES = (b"INBOX", b"Archive")
SEARCHES = (
    b"SEARCH RETURN (%b) FLAGGED UNSEEN",
    b"SEARCH RETURN (%b) OR DELETED NOT KEYWORD $one",
    b"SORT RETURN (%b) (SIZE REVERSE ARRIVAL) UTF-8 UNDELETED",
)


def uids_of(text: bytes) -> set[int]:
    return {uid for first, last in parse_seqset(text).ranges for uid in range(first, last + 1)}


def in_order(text: bytes) -> list[int]:
    pairs = [(each.split(b":") * 2)[:2] for each in text.split(b",")]
    return [uid for first, last in pairs for uid in range(int(first), int(last) + 1)]


NOTIFY = (
    b"NOTIFY SET STATUS (selected-delayed (MessageNew%b MessageExpunge FlagChange))"
    b" (mailboxes (%b) (MessageNew MessageExpunge FlagChange))"
)


class Picture:
    """What a client makes of the responses. `messages` has [UID, flags], by number; either is None if not known."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.messages: list[list] = []
        self.mailbox = b""
        self.uidvalidity = self.modseq = 0
        self.seen_modseq = 0
        self.told_modseq: int | None = None
        self.standing: dict[bytes, dict[bytes, int]] = {}
        """By mailbox that is not selected, as far as it was told."""
        self.followed: dict[bytes, list[int]] = {}
        """UIDs in order, by the tag of the search that is followed (RFC 5267 §4.3)."""

    def hear(self, line: bytes) -> None:
        if match := re.match(rb"\* (\d+) EXISTS", line):
            assert int(match[1]) >= len(self.messages)
            self.messages += [[None, None] for _ in range(int(match[1]) - len(self.messages))]
        elif match := re.match(rb"\* (\d+) EXPUNGE", line):
            assert self.kind != "qresync"
            del self.messages[int(match[1]) - 1]
        elif match := re.match(rb"\* VANISHED \(EARLIER\) (\S+)", line):
            self.earlier(uids_of(match[1]))
        elif match := re.match(rb"\* VANISHED (\S+)", line):
            for uid in uids_of(match[1]):
                self.vanished(uid)
        elif match := re.match(rb"\* (\d+) FETCH \((.*)\)$", line, re.DOTALL):
            self.fetched(int(match[1]), match[2])
        elif match := re.match(rb"\* STATUS (\S+) \((.*)\)$", line):
            words = match[2].split()
            told = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            self.standing.setdefault(match[1], {}).update(told)
        elif match := re.match(rb'\* ESEARCH \(TAG "(t\d+)"\) UID(.*)', line):
            self.results(match[1], match[2])
        elif match := re.match(rb"\* OK \[HIGHESTMODSEQ (\d+)\]", line):
            self.told_modseq = int(match[1])
        elif match := re.match(rb"\* OK \[UIDVALIDITY (\d+)\]", line):
            self.uidvalidity = int(match[1])

    def results(self, tag: bytes, text: bytes) -> None:
        if match := re.match(rb" ALL (\S+)", text):
            self.followed[tag] = in_order(match[1])
        for word, pairs in re.findall(rb" (ADDTO|REMOVEFROM) \(([^)]*)\)", text):
            found = self.followed[tag]
            words = pairs.split()
            for place, uids in zip(map(int, words[::2]), map(in_order, words[1::2]), strict=True):
                if word == b"ADDTO":
                    assert not set(uids) & set(found)
                    found[max(place - 1, 0) : max(place - 1, 0)] = uids
                elif place:
                    assert found[place - 1 : place - 1 + len(uids)] == uids
                    del found[place - 1 : place - 1 + len(uids)]
                else:
                    assert set(uids) <= set(found)
                    found = [uid for uid in found if uid not in uids]
                if not place:  # mailbox order
                    found = sorted(found)
                self.followed[tag] = found

    def vanished(self, gone: int) -> None:
        """One that was announced (RFC 7162 §3.2.10.2); its UID need not be known: then it is among the unknown ones
        between the known ones around it."""
        before = [place for place, each in enumerate(self.messages) if each[0] and each[0] < gone]
        after = [place for place, each in enumerate(self.messages) if each[0] and each[0] >= gone]
        start = before[-1] + 1 if before else 0
        end = after[0] if after else len(self.messages)
        if end < len(self.messages) and self.messages[end][0] == gone:
            del self.messages[end]
            return
        assert start < end, "a UID that was not announced"
        self.messages[start:end] = [[None, None] for _ in range(end - start - 1)]

    def earlier(self, gone: set[int]) -> None:
        assert not gone & {uid for uid, _ in self.messages if uid is not None}

    def fetched(self, number: int, items: bytes) -> None:
        message = self.messages[number - 1]
        if uid := re.search(rb"UID (\d+)", items):
            assert message[0] in (None, int(uid[1]))
            message[0] = int(uid[1])
        if flags := re.search(rb"FLAGS \(([^)]*)\)", items):
            message[1] = frozenset(flags[1].lower().split()) - {b"\\recent"}
        if modseq := re.search(rb"MODSEQ \((\d+)\)", items):
            self.seen_modseq = max(self.seen_modseq, int(modseq[1]))

    def ended(self, line: bytes) -> None:
        """A tagged response: what counts as HIGHESTMODSEQ now (RFC 7162 §6)."""
        if match := re.match(rb"OK \[HIGHESTMODSEQ (\d+)\]", line):
            self.told_modseq = int(match[1])
        now = self.seen_modseq if self.told_modseq is None else self.told_modseq
        self.modseq = max(self.modseq, now)
        self.seen_modseq, self.told_modseq = 0, None


class Client:
    """One session after another over the same cache."""

    def __init__(self, imap: Imap, kind: str, dice: random.Random) -> None:
        self.imap, self.kind, self.dice = imap, kind, dice
        self.notifies = False
        self.picture = Picture(kind)
        self.line: Line | None = None
        self.searches: dict[bytes, bytes] = {}
        self.cache: dict[bytes, tuple[int, int, dict[int, frozenset[bytes]]]] = {}

    async def run(self, command: bytes) -> bytes:
        assert self.line is not None
        *lines, last = await self.line.command(command)
        assert not last.startswith((b"BAD", b"<closed>")), (command, last)
        is_closed = any(line.startswith(b"* OK [CLOSED]") for line in lines)
        for line in lines:
            if line.startswith(b"* OK [CLOSED]"):
                is_closed = False
            if not is_closed or line.startswith(b"* STATUS"):  # else it is of the mailbox before
                self.picture.hear(line)
        self.picture.ended(last)
        return last

    async def open(self, mailbox: bytes) -> None:
        """Select it, and bring the cache up to date as the kind of client does."""
        self.keep()
        if self.line is None:
            self.line = await self.imap.login()
            if self.kind == "qresync":
                await self.run(b"ENABLE QRESYNC")
            elif self.kind == "condstore":
                await self.run(b"ENABLE CONDSTORE")
            self.notifies = self.dice.random() < 0.5
        self.picture = Picture(self.kind)
        self.picture.mailbox = mailbox
        known = self.cache.get(mailbox)
        if known is None or self.kind == "plain":
            await self.run(b"SELECT " + mailbox)
            await self.learn()
        elif self.kind == "condstore":
            await self.open_condstore(mailbox, *known)
        else:
            await self.open_qresync(mailbox, *known)
        if self.notifies:
            items = self.dice.choice((b"", b" (UID FLAGS)", b" (BODY.PEEK[])"))
            await self.run(NOTIFY % (items, b" ".join(MAILBOXES)))
        self.searches = {}
        for search in SEARCHES:
            if self.dice.random() < 0.5:
                await self.follow(search)
        await self.check()

    async def follow(self, search: bytes) -> None:
        assert self.line is not None
        tag = b"t%d" % (self.line._tag + 1)
        self.picture.followed[tag] = []
        self.searches[tag] = search
        items = self.dice.choice((b"", b" (FLAGS UID)"))
        await self.run(b"UID " + search % (b"UPDATE%b ALL" % items))

    async def open_condstore(self, mailbox: bytes, validity: int, modseq: int, flags: dict) -> None:
        await self.run(b"SELECT " + mailbox)
        picture = self.picture
        assert picture.uidvalidity == validity
        if picture.messages:
            await self.run(b"FETCH 1:* (UID)")
            for message in picture.messages:
                message[1] = flags.get(message[0])
            await self.run(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % max(modseq, 1))

    async def open_qresync(self, mailbox: bytes, validity: int, modseq: int, flags: dict) -> None:
        """The numbers of what is left follow from VANISHED (EARLIER) alone."""
        gone: set[int] = set()
        changed: dict[int, bytes] = {}
        picture = self.picture
        picture.earlier = gone.update
        fetched = picture.fetched

        def keep(number: int, items: bytes) -> None:
            changed[int(re.search(rb"UID (\d+)", items)[1])] = items
            fetched(number, items)

        picture.fetched = keep
        known = format_seqset(sorted(flags))
        parameter = b"%d %d" % (validity, modseq)
        if known and self.dice.random() < 0.5:
            parameter += b" " + known
        pairs = sorted(self.dice.sample(range(1, len(flags) + 1), min(len(flags), 3)))
        if pairs and self.dice.random() < 0.5:
            have = sorted(flags)
            their = format_seqset([have[number - 1] for number in pairs])
            parameter += b" (%b %b)" % (format_seqset(pairs), their)
        await self.run(b"SELECT %b (QRESYNC (%b))" % (mailbox, parameter))
        del picture.earlier, picture.fetched
        left = sorted(set(flags) - gone)
        for message, uid in zip(picture.messages, left, strict=False):
            assert message[0] in (None, uid)
            message[0] = uid
            if uid not in changed:
                message[1] = flags[uid]
        assert len(left) <= len(picture.messages)
        await self.learn()

    async def learn(self) -> None:
        """Ask for what is not known, as after EXISTS."""
        unknown = [n for n, each in enumerate(self.picture.messages, 1) if None in each]
        if unknown:
            extra = b" MODSEQ" if self.kind != "plain" else b""
            await self.run(b"FETCH %b (UID FLAGS%b)" % (format_seqset(unknown), extra))

    def keep(self) -> None:
        """What the client remembers of its mailbox once it has left it; nothing while there is something unknown."""
        picture = self.picture
        if picture.mailbox and all(None not in each for each in picture.messages):
            flags = dict(picture.messages)
            self.cache[picture.mailbox] = (picture.uidvalidity, picture.modseq, flags)

    async def check(self) -> None:
        await self.run(b"NOOP")
        await self.learn()
        await self.run(b"NOOP")
        store = self.imap.store

        def work(tx):
            mailbox = mailboxes.get(tx, (self.picture.mailbox.decode(),))
            rows = messages.select(tx, mailbox.id, [(1, 1 << 31)], ("uid", "flags"))
            from pillarbox.store.keywords import format_flags

            return [
                [uid, frozenset(format_flags(tx, flags).lower().split())] for uid, flags in rows
            ]

        assert self.picture.messages == await store.read(self.imap.account, work)
        for tag, search in self.searches.items():
            assert self.line is not None
            line = b""
            for told in await self.line.ok(b"UID " + search % b"ALL"):
                if told.startswith(b'* ESEARCH (TAG "t%d")' % self.line._tag):
                    line = told
                else:
                    self.picture.hear(told)
            match = re.search(rb" ALL (\S+)", line)
            assert self.picture.followed[tag] == (in_order(match[1]) if match else []), search

        await self.check_others()

    async def check_others(self) -> None:
        """What was told of the other mailbox is how it stands."""
        names = [name for name in self.picture.standing if name != self.picture.mailbox]
        for name in names if self.notifies else ():
            await self.run(b"NOOP")
            mailbox = await self.imap.store.read(
                self.imap.account, lambda tx, name=name: mailboxes.get(tx, (name.decode(),))
            )
            told = self.picture.standing[name]
            assert told[b"MESSAGES"] == mailbox.messages
            assert told[b"UIDNEXT"] == mailbox.uidnext
            assert told[b"UNSEEN"] == mailbox.unseen
            if self.kind != "plain":
                assert told[b"HIGHESTMODSEQ"] == mailbox.modseq

    async def leave(self) -> None:
        """Go away, with or without a word."""
        assert self.line is not None
        if self.dice.random() < 0.5:
            await self.run(self.dice.choice((b"UNSELECT", b"NOOP")))
        self.keep()
        self.line.close()
        self.line = None
        self.picture = Picture(self.kind)

    async def act(self) -> None:
        dice, picture = self.dice, self.picture
        if self.line is None or dice.random() < 0.06:
            await self.open(dice.choice(MAILBOXES))
            return
        if dice.random() < 0.05:
            await self.leave()
            return
        count = len(picture.messages)
        uid = dice.random() < 0.5
        known = [each[0] for each in picture.messages if each[0] is not None]
        pool = known if uid else range(1, count + 1)
        some = format_seqset(sorted(dice.sample(pool, min(len(pool), dice.randint(1, 6)))))
        prefix = b"UID " if uid else b""
        flags = b" ".join(dice.sample(FLAGS, dice.randint(1, 3)))
        match dice.randint(0, 11):
            case 0 | 1:
                await self.imap.put(SIMPLE[: -dice.randint(1, 9)], flags=0)
            case 2 | 3 | 4 if some:
                modifier = b""
                if self.kind != "plain" and dice.random() < 0.5:
                    modifier = b"(UNCHANGEDSINCE %d) " % max(0, picture.modseq - dice.randint(0, 5))
                verb = dice.choice((b"FLAGS", b"+FLAGS", b"-FLAGS", b"+FLAGS", b"+FLAGS.SILENT"))
                last = await self.run(
                    b"%bSTORE %b %b%b (%b)" % (prefix, some, modifier, verb, flags)
                )
                if verb.endswith(b"SILENT"):
                    self.stored_silently(some, uid, flags, last)
            case 5 if some:
                await self.run(b"%bFETCH %b (FLAGS)" % (prefix, some))
            case 6 if some:
                await self.run(b"%bFETCH %b (BODY[HEADER.FIELDS (SUBJECT)])" % (prefix, some))
            case 7:
                await self.run(b"EXPUNGE" if not (uid and some) else b"UID EXPUNGE " + some)
            case 8 if some:
                target = dice.choice(MAILBOXES)
                await self.run(
                    b"%b%b %b %b" % (prefix, dice.choice((b"COPY", b"MOVE")), some, target)
                )
                if self.picture.standing.pop(target, None) is not None:
                    # what it did itself, it is not told (RFC 5465 §5)
                    await self.run(NOTIFY % (b"", b" ".join(MAILBOXES)))
            case 9:
                await self.run(b"%bSEARCH RETURN (SAVE ALL) DELETED" % prefix)
            case 10:
                await self.run(b"%bSTORE $ +FLAGS ($one)" % prefix)
            case 11:
                await self.check()

    def stored_silently(self, some: bytes, uid: bool, flags: bytes, last: bytes) -> None:
        """A client knows by itself what became of the flags (RFC 3501 §6.4.6), where nothing had changed them since."""
        modified = re.search(rb"\[MODIFIED (\S+)\]", last)
        failed = uids_of(modified[1]) if modified else set()
        for place in uids_of(some) - failed:
            for number, message in enumerate(self.picture.messages, 1):
                if (message[0] if uid else number) == place and message[1] is not None:
                    message[1] = message[1] | set(flags.lower().split())


async def round_of(folder: Path, seed: int, steps: int) -> None:
    dice = random.Random(seed)
    async with serving(folder) as imap:
        kinds = ["plain", "condstore", "qresync"]
        clients = [Client(imap, kind, dice) for kind in dice.choices(kinds, k=dice.randint(2, 4))]
        for step in range(steps):
            try:
                await dice.choice(clients).act()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {step}: {error}") from error
            if dice.random() < 0.01:  # what housekeeping forgets
                await imap.store.write(imap.account, lambda tx: changes.trim(tx, mailboxes.INBOX))
        for client in clients:
            if client.line is None:
                await client.open(MAILBOXES[0])
            await client.check()
            client.line.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_picture_equals_the_store(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:  # far behind after a few changes
        monkeypatch.setattr(changes, "MOST_ROWS", 5)
        monkeypatch.setattr(changes, "FLAG_CHANGES_KEPT", 3)
        monkeypatch.setattr(changes, "SCANNED_UIDS", 4)
    asyncio.run(round_of(tmp_path, seed, STEPS))


def test_soak(tmp_path: Path) -> None:
    """Nothing in the suite: one short round more. Under `make soak`, new seeds for SOAK_S seconds."""
    end = time.monotonic() + float(os.environ.get("SOAK_S", "0"))
    seed = int(os.environ.get("SOAK_SEED", "1000"))
    while True:
        folder = tmp_path / str(seed)
        folder.mkdir()
        asyncio.run(round_of(folder, seed, STEPS))
        seed += 1
        if time.monotonic() >= end:
            return

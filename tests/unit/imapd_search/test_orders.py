"""What SORT and THREAD found is kept by the messages it is about."""

import asyncio
from array import array
from pathlib import Path

import pytest

from pillarbox.core.dates import pack_date
from pillarbox.imap.seqset import SeqSet
from pillarbox.imap.syntax_search import Key, SortKey
from pillarbox.imapd import orders as module
from pillarbox.imapd.context import SearchContext
from pillarbox.imapd.orders import FROM_MESSAGES, Orders
from pillarbox.imapd.sort import sort
from pillarbox.imapd.thread import thread
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

UIDS = range(1, FROM_MESSAGES + 1)


def test_an_answer_is_found_for_the_same_question_about_the_same_messages_only() -> None:
    orders = Orders()
    orders.keep(orders.key(1, 2, "DATE", UIDS), [3, 2, 1], 100)
    assert orders.find(orders.key(1, 2, "DATE", list(UIDS))) == [3, 2, 1]
    for other in (
        orders.key(2, 2, "DATE", UIDS),
        orders.key(1, 3, "DATE", UIDS),
        orders.key(1, 2, "SUBJECT", UIDS),
        orders.key(1, 2, "DATE", range(2, FROM_MESSAGES + 2)),
        orders.key(1, 2, "DATE", range(1, FROM_MESSAGES + 2)),
    ):
        assert orders.find(other) is None


def test_answers_about_few_messages_are_not_kept() -> None:
    orders = Orders()
    key = orders.key(1, 2, "DATE", UIDS[1:])
    orders.keep(key, [1], 100)
    assert orders.find(key) is None


def test_the_oldest_go_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_OCTETS", 250)
    orders = Orders()
    keys = [orders.key(1, mailbox, "DATE", UIDS) for mailbox in range(3)]
    orders.keep(keys[0], [0], 100)
    orders.keep(keys[1], [1], 100)
    assert orders.find(keys[0]) == [0]
    orders.keep(keys[2], [2], 100)
    assert [orders.find(key) for key in keys] == [[0], None, [2]]


def test_an_answer_that_is_too_large_alone_is_not_kept() -> None:
    orders = Orders()
    key = orders.key(1, 2, "DATE", UIDS)
    orders.keep(key, [1], module.KEPT_OCTETS + 1)
    assert orders.find(key) is None
    orders.keep(key, [1], 10)
    assert orders.find(key) == [1]


def test_kept_answers_are_those_that_would_be_found_again(tmp_path: Path) -> None:
    """For the mailbox as it is, with messages gone, and with new ones; by UID and by number."""
    count = FROM_MESSAGES + 20

    async def pause() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        store = Store(tmp_path)
        kept = Orders()
        for number in range(count):
            octets = (
                b"Subject: %bsubject %d\r\nMessage-ID: <%d@example.test>\r\n"
                b"References: <%d@example.test>\r\n\r\nx\r\n"
                % (b"Re: " * (number % 2), number * 7919 % 90, number, number // 3)
            )
            await store.append(1, Append(1, make_content(octets), pack_date(number, 0), 0, ()))
        everything = range(1, count + 1)
        views = [
            everything[:-5],
            everything,
            [uid for uid in everything if uid % 50],
            everything[3:],
        ]
        for view in [*views, *views]:
            answers = []
            for orders in (kept, Orders()):
                uids = array("I", view)
                context = SearchContext(
                    store, 1, 1, uids, lambda _uid: False, SeqSet(()), pause, orders=orders
                )
                find = Key("ALL")
                by_subject = await sort(context, (SortKey("SUBJECT"), SortKey("DATE", True)), find)
                by_date = await sort(context, (SortKey("SUBJECT"), SortKey("DATE")), find)
                by_uid = await thread(context, "REFERENCES", find, None)
                by_number = await thread(
                    context, "REFERENCES", find, lambda uid, uids=uids: uids.index(uid) + 1
                )
                subjects = await thread(context, "ORDEREDSUBJECT", find, None)
                answers.append(
                    [list(each) for each in (by_subject, by_date, by_uid, by_number, subjects)]
                )
            assert answers[0] == answers[1]
        await store.close()

    asyncio.run(main())

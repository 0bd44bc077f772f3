"""Much mail for one account at once does not keep the event loop waiting for one long transaction."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.store import messages
from pillarbox.store import unit as unit_module
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.mailboxes import INBOX
from pillarbox.store.store import Store
from pillarbox.store.unit import MOST_OCTETS_A_GROUP


@pytest.mark.parametrize("size", [60_000, 800_000, 3_000_000])
def test_a_group_writes_a_bounded_number_of_octets(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(b"Subject: x\r\n\r\n" + b"x" * size)
    groups: list[int] = []
    apply = unit_module._begin

    def watch(file, units, now_s):
        if len(units) > 1:
            groups.append(sum(unit.octets for unit in units))
        return apply(file, units, now_s)

    monkeypatch.setattr(unit_module, "_begin", watch)

    async def scenario() -> None:
        store = Store(tmp_path)
        await asyncio.gather(*(store.append(1, Append(INBOX, content, 0)) for _ in range(50)))
        assert max(groups, default=0) <= MOST_OCTETS_A_GROUP
        found = await store.read(
            1, lambda tx: messages.select(tx, INBOX, [(1, messages.MOST_UIDS)], ("size",))
        )
        assert found == [(len(content.octets),)] * 50
        await store.close()

    asyncio.run(scenario())

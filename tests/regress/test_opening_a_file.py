"""Whoever comes just after a file was opened by another waits for nothing and nobody."""

import asyncio
from pathlib import Path
from typing import Any

from pillarbox.store.store import Store


class _AtOnce(asyncio.SelectorEventLoop):
    """What would run in a thread is done before anybody can ask: the worst order of events."""

    def run_in_executor(self, _executor: Any, work: Any, *arguments: Any) -> Any:
        future = self.create_future()
        future.set_result(work(*arguments))
        return future


def test_a_file_that_was_opened_but_is_not_yet_known_does_not_stop_the_loop(tmp_path: Path) -> None:
    async def main() -> list[int]:
        store = Store(tmp_path)
        reads = (store.read(1, lambda _tx, number=number: number) for number in range(3))
        found = await asyncio.wait_for(asyncio.gather(*reads), 10)
        await store.close()
        return found

    loop = _AtOnce()
    try:
        assert loop.run_until_complete(main()) == [0, 1, 2]
    finally:
        loop.close()

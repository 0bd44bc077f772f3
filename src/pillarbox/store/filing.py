"""When the files of accounts get what was taken for them: after a while, when there is enough of it, before anybody
reads or writes the account, and again later where a file took nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable

from pillarbox.core.errors import Failure, told
from pillarbox.store.intake import Intake, Taken
from pillarbox.store.lately import Lately
from pillarbox.store.told import tell_filed
from pillarbox.store.tx import Tx
from pillarbox.store.unit import Unit, nothing
from pillarbox.trace.recorder import Recorder

TICK_S = 0.05
"""How often what was taken is looked at."""

TOLD_AGAIN_S = 60.0
"""From one line on an account that takes no mail to the next, with the same reason."""

log = logging.getLogger("pillarbox.store")


class Filing:
    """Belongs to a `Committer`, which does the writing."""

    def __init__(
        self,
        intake: Intake,
        put_now: Callable[[int], None],
        submit: Callable[[int, Unit], None],
        start: Callable[[Coroutine[None, None, None]], None],
        recorder: Recorder,
        tell_damage: Callable[[int, BaseException], bool],
    ) -> None:
        """`put_now` writes an account's file between two turns, if nobody else is at work on it. `submit` lets a unit
        wait for the next turn; `start` runs what ends before the committer does. `tell_damage`: see `Damage.tell`."""
        self.intake = intake
        self._put_now = put_now
        self._submit = submit
        self._start = start
        self._recorder = recorder
        self._tell_damage = tell_damage
        self._refusals = Lately(TOLD_AGAIN_S)
        """By accounts whose file takes nothing, and why."""
        self._due: dict[int, None] = {}
        """Accounts whose files shall get what was taken for them, in order."""
        self._is_putting = self._is_stopped = False
        self._tick_timer: asyncio.TimerHandle | None = None

    def keep(self, account: int, taken: Taken, *, is_watched: bool) -> None:
        """Hold a message until its file gets it; soon, if a session waits for it."""
        is_enough = self.intake.add(account, taken, time.monotonic())
        if is_enough or is_watched:
            self._put_later((account,))
        self._tick_later()

    def _tick_later(self) -> None:
        if self._tick_timer is None and self.intake and not self._is_stopped:
            self._tick_timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        """Put what has waited long enough into its files."""
        self._tick_timer = None
        self._put_later(self.intake.due(time.monotonic()))
        self._tick_later()

    def _put_later(self, accounts: Iterable[int]) -> None:
        self._due.update(dict.fromkeys(accounts))
        if self._due and not self._is_putting:
            self._is_putting = True
            self._start(self._put_due())

    async def _put_due(self) -> None:
        """One account after the other, others in between: no 250 waits for it."""
        try:
            while self._due and not self._is_stopped:
                account = next(iter(self._due))
                del self._due[account]
                if self.intake.is_behind(account):
                    self._put_now(account)
                    await asyncio.sleep(0)
        finally:
            self._is_putting = False

    def unit(self, account: int) -> Unit:
        """What puts into its file what was taken for an account, or as much as goes into it at a time."""
        intake, batch = self.intake, self.intake.batch(account)
        return Unit(
            lambda tx: intake.append_batch(tx, batch),
            nothing,
            0,
            asyncio.get_running_loop().create_future(),
            sum(taken.item.size for taken in batch),
            batch=batch,
        )

    def end(self, account: int, unit: Unit) -> None:
        """A unit of ours was committed, or failed."""
        batch = unit.batch
        if batch is None or not self.intake.is_behind(account):
            return  # the account was removed
        error, now = unit.error, time.monotonic()
        if error is None:
            self.intake.put(account, batch, now)
            if self._recorder.is_on:
                tell_filed(self._recorder, account, [taken.item for taken in batch], unit.result)
            return
        # Each reader who looks tries to put it in.
        if not self._tell_damage(account, error) and self._refusals.may_tell(
            (account, told(error)), now
        ):
            log.error("account %d takes no mail: %s", account, told(error))
        self.intake.failed(account, now)

    def put_soon(self, account: int) -> "asyncio.Future[None]":
        """A unit that does nothing: what was taken goes in front of it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_hear)  # not everybody waits for it
        self._submit(account, Unit(_do_nothing, nothing, 0, done))
        return done

    async def has_put(self, account: int, sequence: int) -> bool:
        """Whether the account's file has what was taken for it up to a message, once that was tried."""
        while (first := self.intake.first_sequence(account)) is not None and first <= sequence:
            try:
                await self.put_soon(account)
            except Failure:
                return False
            if self.intake.has_failed(account):
                return False
        return True

    def stop(self) -> None:
        """Begin nothing more by itself."""
        self._is_stopped = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None


def _hear(done: "asyncio.Future[None]") -> None:
    """An error of the unit is one of the put before it, which was logged."""
    if not done.cancelled():
        done.exception()


def _do_nothing(_tx: Tx) -> None:
    """The work of a unit that only waits for what is in front of it."""

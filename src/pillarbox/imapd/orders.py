"""What SORT and THREAD found out about many messages, kept for whoever asks again: webmail does for every page.

An answer depends on nothing but the messages it is about, for what they are sorted and threaded by never changes. So
their UIDs are the key, and no change of the mailbox makes an answer wrong: it makes for another key.
"""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence

FROM_MESSAGES = 500
"""Answers about fewer are found again as soon as they are looked up."""

KEPT_OCTETS = 8 << 20
"""Of keys and answers, by those used last."""

Answer = Sequence[int] | Sequence[bytes]
"""UIDs in order, or pieces of a response."""


class Orders:
    """Those of a server process."""

    __slots__ = ("_kept", "_octets")

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Answer, int]] = OrderedDict()
        self._octets = 0

    def key(self, account: int, mailbox: int, what: Hashable, uids: Sequence[int]) -> Hashable:
        """Of an answer to `what` about these messages; None: it is not worth keeping."""
        if len(uids) < FROM_MESSAGES:
            return None
        return account, mailbox, what, array("I", uids).tobytes()

    def find(self, key: Hashable) -> Answer | None:
        if key is None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def keep(self, key: Hashable, answer: Answer, octets: int) -> None:
        """`octets` is about what key and answer take up."""
        if key is None or key in self._kept or octets > KEPT_OCTETS:
            return
        self._kept[key] = answer, octets
        self._octets += octets
        while self._octets > KEPT_OCTETS:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._octets -= dropped

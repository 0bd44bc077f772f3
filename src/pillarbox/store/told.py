"""What the store tells the trace: where messages that came by a delivery have been filed."""

from collections.abc import Sequence

from pillarbox.store.appending import Append, Appended
from pillarbox.store.mailboxes import INBOX, INBOX_NAME
from pillarbox.trace.events import Filed, place_of
from pillarbox.trace.recorder import Recorder


def tell_filed(
    recorder: Recorder, account: int, items: Sequence[Append], done: Sequence[Appended]
) -> None:
    """These went into INBOX, in the same order; those that were there before (without a UID) are left out."""
    filed = [
        (item.queue_id, appended.uid)
        for item, appended in zip(items, done, strict=True)
        if item.queue_id and appended.uid
    ]
    if filed:
        uidvalidity = max(appended.uidvalidity for appended in done)
        recorder.add(Filed(place_of(account, INBOX, uidvalidity), INBOX_NAME[0], filed))

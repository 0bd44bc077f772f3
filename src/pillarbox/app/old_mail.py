"""Where the old mail is that another program left at a path: a Maildir (`app.maildir`) or an mbox (`app.mbox`)."""

from pathlib import Path

from pillarbox.app.maildir import find_folders
from pillarbox.app.mbox import find_mbox
from pillarbox.app.old_message import OldMailbox


def find_mailboxes(path: Path) -> list[OldMailbox]:
    """Those of a Maildir, its own first, or the one of an mbox; what is passed over has a problem. Blocks. Raises
    Refused where it is neither, OSError."""
    return find_folders(path) if path.is_dir() else [find_mbox(path)]

"""The accounts of tests that need a directory."""

import time
from pathlib import Path

from pillarbox.store.directory import Directory

ALICE, BOB = "alice@example.org", "bob@example.org"


def make_directory(folder: Path, *addresses: str) -> None:
    directory = Directory(folder / "directory.db", clock=time.time)
    directory.add_domain("example.org")
    for address in addresses:
        directory.add_account(address, "", "")
    directory.close()

"""Lets the tests of this folder import what they share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from people import ALICE, BOB, make_directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with the accounts of ALICE and BOB."""
    folder = tmp_path / "data"
    folder.mkdir()
    make_directory(folder, ALICE, BOB)
    return folder

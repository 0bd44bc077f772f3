"""Some seconds of `make soak`: mixed load with kills; nothing is lost, nothing leaks."""

import asyncio
from pathlib import Path

import pytest
from soak import Plan, soak


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path) -> None:
    plan = Plan(8, 10, 5, 2, imap_accounts=4, longest_peace_s=1.5, rest_s=0, judges_growth=False)
    ledger = asyncio.run(soak(tmp_path, plan, 2026, print))
    assert ledger.kills
    assert ledger.commands > 100

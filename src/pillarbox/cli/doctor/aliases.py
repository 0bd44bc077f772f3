"""Whether aliases lead anywhere."""

from pillarbox.cli.alias import all_notes
from pillarbox.cli.common import directory_of
from pillarbox.cli.doctor.case import Case, in_thread
from pillarbox.cli.doctor.finding import Finding, warning
from pillarbox.cli.doctor.machine import FILES_S
from pillarbox.core.errors import Failure


async def check_aliases(case: Case) -> list[Finding]:
    """What `config check` notes of them."""
    if not (case.config.data_path / "directory.db").exists():
        return []
    try:
        return await in_thread(lambda: _check(case), FILES_S)
    except Failure:
        return []  # of the directory `check_accounts` tells


def _check(case: Case) -> list[Finding]:
    advice = "see them: pillarbox alias list; what nobody needs goes with: pillarbox alias remove"
    notes: dict[str, list[str]] = {}
    with directory_of(case.config) as directory:
        for name, note in all_notes(directory):
            notes.setdefault(name, []).append(f"it {note.removeprefix(f'{name} ')}")
    return [warning("aliases", name, "; ".join(found), advice) for name, found in notes.items()]

"""What the last run found, kept in the data folder, so that a run can say what changed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pillarbox.certs.files import write_whole
from pillarbox.cli.doctor.finding import Finding, Level

NAME = "doctor.json"
KEPT_S = 90 * 86400
"""What was not looked at for so long is forgotten."""

Key = tuple[str, str]
"""Check and subject."""


class Memory:
    """Of the findings of former runs, each with its time."""

    def __init__(self, folder: Path) -> None:
        """Reads the file; one that is not there, or is no good, is an empty memory. Raises OSError."""
        self._path = folder / NAME
        self._known: dict[Key, tuple[Level, int]] = {}
        self.last: int | None = None
        """When the last run was, in epoch seconds."""
        try:
            found: Any = json.loads(self._path.read_bytes())
            self.last = int(found["last"])
            self._known = {
                (str(check), str(subject)): (Level(level), int(at))
                for check, subject, level, at in found["findings"]
            }
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            self.last, self._known = None, {}

    def before(self, finding: Finding) -> Level | None:
        """What it was at the last look; None: it was not looked at."""
        known = self._known.get((finding.check, finding.subject))
        return known[0] if known else None

    def save(self, findings: Iterable[Finding], now: int) -> None:
        """Add a run. Raises OSError."""
        kept = {key: value for key, value in self._known.items() if value[1] > now - KEPT_S}
        kept |= {(each.check, each.subject): (each.level, now) for each in findings}
        rows = [[*key, level, at] for key, (level, at) in sorted(kept.items())]
        octets = json.dumps({"last": now, "findings": rows}).encode()
        write_whole(self._path, octets, 0o600)

"""The server as a process, and the runner of transcripts."""

import sys
from pathlib import Path

SERVICE = Path(__file__).parents[1]
sys.path.insert(0, str(SERVICE / "robust"))
sys.path.insert(0, str(SERVICE.parent / "transcripts" / "seed"))

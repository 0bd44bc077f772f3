"""Lets the tests of this folder import what they share, the small DNS server, and the tools."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "service" / "doctor")]
sys.path.append(str(HERE.parents[1] / "tools"))

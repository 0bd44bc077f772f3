"""Lets the tests of this folder import what they share, the server process, and the web service for logins."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "robust"), str(HERE.parent / "auth")]

"""The command `pillarbox`: one module for each group of commands."""

from pillarbox.cli.main import main

__all__ = ["main"]

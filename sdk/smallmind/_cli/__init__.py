"""The command line: ``smallmind``, and ``python -m smallmind``."""

from smallmind._cli.entry import main

__all__ = ["main"]

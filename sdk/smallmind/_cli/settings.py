"""Options that stand before the command and hold for all of them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

DEBUG: Final[ContextVar[bool]] = ContextVar("smallmind_cli_debug", default=False)
"""Whether errors show their traceback."""

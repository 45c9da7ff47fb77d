"""Memory: the budget that is asked before memory is taken, and what the process uses."""

from smallmind_engine.memory.budget import (
    BudgetEnforcer,
    BudgetUsage,
    MemoryBudgetMode,
    MemoryCategory,
)
from smallmind_engine.memory.process import available_bytes, peak_rss_bytes, rss_bytes

__all__ = [
    "BudgetEnforcer",
    "BudgetUsage",
    "MemoryBudgetMode",
    "MemoryCategory",
    "available_bytes",
    "peak_rss_bytes",
    "rss_bytes",
]

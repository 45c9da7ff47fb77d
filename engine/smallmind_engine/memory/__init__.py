"""Memory: the budget that is asked before memory is taken, and what there is and is used."""

from smallmind_engine.memory.budget import BudgetEnforcer
from smallmind_engine.memory.categories import BudgetUsage, MemoryBudgetMode, MemoryCategory
from smallmind_engine.memory.ladder import MemoryRequest, choose_plan
from smallmind_engine.memory.limits import (
    LimitSource,
    MemoryLimit,
    available_bytes,
    effective_limit,
    system_limit,
)
from smallmind_engine.memory.plan import (
    RUNG_REASONS,
    LadderStep,
    MemoryDemand,
    MemoryPlan,
    MemoryRung,
)
from smallmind_engine.memory.process import (
    ProcessMemory,
    peak_rss_bytes,
    process_memory,
    rss_bytes,
)
from smallmind_engine.memory.reservation import Reservation

__all__ = [
    "RUNG_REASONS",
    "BudgetEnforcer",
    "BudgetUsage",
    "LadderStep",
    "LimitSource",
    "MemoryBudgetMode",
    "MemoryCategory",
    "MemoryDemand",
    "MemoryLimit",
    "MemoryPlan",
    "MemoryRequest",
    "MemoryRung",
    "ProcessMemory",
    "Reservation",
    "available_bytes",
    "choose_plan",
    "effective_limit",
    "peak_rss_bytes",
    "process_memory",
    "rss_bytes",
    "system_limit",
]

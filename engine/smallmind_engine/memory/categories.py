"""What memory is for, how a budget is kept, and how much of it is in use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MemoryBudgetMode(StrEnum):
    """What happens when the budget does not suffice."""

    NONE = "none"  # count only
    BEST_EFFORT = "best_effort"  # give less than was asked for
    STRICT = "strict"  # refuse


class MemoryCategory(StrEnum):
    """What memory is for."""

    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"
    SCRATCH = "scratch"  # activations, scores and logits of a step
    PREFIX_STORE = "prefix_store"  # idle KV blocks kept for prompts that begin alike
    TOKENIZER = "tokenizer"  # metadata of the file, and the tables made of it
    KERNELS = "kernels"  # compiled kernels and their compiler, once in a process


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """Reserved bytes of one category, now and at most so far."""

    category: MemoryCategory
    current_bytes: int
    high_water_bytes: int

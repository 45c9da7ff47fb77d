"""What a model will take, as plain data that is known before anything is taken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.memory.categories import MemoryBudgetMode, MemoryCategory
from smallmind_engine.memory.limits import MemoryLimit
from smallmind_engine.telemetry.reasons import DegradeReason


class MemoryRung(StrEnum):
    """What a best-effort budget gives up, in the order in which it does."""

    SMALLER_KV_CACHE = "smaller_kv_cache"
    QUANTISED_KV_CACHE = "quantised_kv_cache"
    WEIGHTS_PER_LAYER = "weights_per_layer"
    NO_PREFIX_STORE = "no_prefix_store"


RUNG_REASONS = {
    MemoryRung.SMALLER_KV_CACHE: DegradeReason.MEMORY_BUDGET_SOFT_LIMIT,
    MemoryRung.QUANTISED_KV_CACHE: DegradeReason.MEMORY_BUDGET_SOFT_LIMIT,
    MemoryRung.WEIGHTS_PER_LAYER: DegradeReason.WEIGHTS_PER_LAYER,
    MemoryRung.NO_PREFIX_STORE: DegradeReason.MEMORY_BUDGET_SOFT_LIMIT,
}
"""The reason that the event of each rung carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderStep:
    """A rung that was taken.

    Attributes:
        rung: which.
        category: of the memory that it saves.
        before_bytes: what was wanted.
        after_bytes: what is taken instead.
        message: what it means, in one line.
    """

    rung: MemoryRung
    category: MemoryCategory
    before_bytes: int
    after_bytes: int
    message: str

    @property
    def saved_bytes(self) -> int:
        """What it saves."""
        return self.before_bytes - self.after_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDemand:
    """What one way of running a model takes.

    Attributes:
        backend: name of the backend.
        weights: where dequantised weights live, ``resident`` or ``per_layer``.
        kv_cache_type: what KV caches store.
        weight_bytes: prepared weights.
        tokenizer_bytes: metadata of the file, and the tokenizer's tables.
        scratch_bytes: activations, scores and logits of the largest step.
        kernels_bytes: compiled kernels and their compiler, which a process has once.
        prefix_store_bytes: idle KV blocks that are kept.
        kv_bytes_per_token: KV cache of one position.
        largest_tensor: name of the largest tensor that the backend holds in one piece.
        largest_tensor_bytes: its size there.
    """

    backend: str
    weights: str
    kv_cache_type: str
    weight_bytes: int
    tokenizer_bytes: int
    scratch_bytes: int
    kernels_bytes: int
    prefix_store_bytes: int
    kv_bytes_per_token: int
    largest_tensor: str
    largest_tensor_bytes: int

    @property
    def fixed_bytes(self) -> int:
        """All but KV caches of running requests."""
        return (
            self.weight_bytes
            + self.tokenizer_bytes
            + self.scratch_bytes
            + self.kernels_bytes
            + self.prefix_store_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What loading a model and one full context take, and what was given up to make it fit.

    Attributes:
        demand: the way it will run.
        context_length: positions that may be used.
        kv_tokens: positions that there is room for; fewer than ``context_length`` when the budget
            is short.
        mode: of the budget.
        limit: the user's, or the system's; None where nobody knows any.
        steps: rungs of the ladder that were taken, in order.
    """

    demand: MemoryDemand
    context_length: int
    kv_tokens: int
    mode: MemoryBudgetMode
    limit: MemoryLimit | None
    steps: tuple[LadderStep, ...] = ()

    @property
    def kv_cache_bytes(self) -> int:
        """KV caches for ``kv_tokens`` positions."""
        return self.kv_tokens * self.demand.kv_bytes_per_token

    @property
    def total_bytes(self) -> int:
        """Everything."""
        return self.demand.fixed_bytes + self.kv_cache_bytes

    @property
    def shares(self) -> tuple[tuple[MemoryCategory, int], ...]:
        """Bytes by category; they add up to ``total_bytes``."""
        return shares_of(self.demand, self.kv_tokens)

    @property
    def fits(self) -> bool:
        """Whether the limit holds it; True when none is known."""
        return self.limit is None or self.total_bytes <= self.limit.budget_bytes


def shares_of(demand: MemoryDemand, kv_tokens: int) -> tuple[tuple[MemoryCategory, int], ...]:
    """Bytes by category."""
    return (
        (MemoryCategory.WEIGHTS, demand.weight_bytes),
        (MemoryCategory.KV_CACHE, kv_tokens * demand.kv_bytes_per_token),
        (MemoryCategory.SCRATCH, demand.scratch_bytes),
        (MemoryCategory.PREFIX_STORE, demand.prefix_store_bytes),
        (MemoryCategory.TOKENIZER, demand.tokenizer_bytes),
        (MemoryCategory.KERNELS, demand.kernels_bytes),
    )

"""The memory budget: every large allocation is asked for here before it is made."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.telemetry import (
    Emitter,
    EventKind,
    MemoryBudgetEvent,
    MemoryHighWater,
    ReasonCode,
)
from smallmind_engine.telemetry.errors import ConfigError, MemoryBudgetError


class MemoryBudgetMode(StrEnum):
    """What happens when the budget does not suffice."""

    NONE = "none"  # count only
    BEST_EFFORT = "best_effort"  # give less than was asked for
    STRICT = "strict"  # refuse


class MemoryCategory(StrEnum):
    """What memory is for."""

    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """Reserved bytes of one category, now and at most so far."""

    category: MemoryCategory
    current_bytes: int
    high_water_bytes: int


class BudgetEnforcer:
    """Counts what is reserved, and refuses or gives less as its mode says. Thread-safe.

    Args:
        limit_bytes: the budget for all categories together; needed unless the mode is ``NONE``.
        mode: see ``MemoryBudgetMode``.
        model: name for the events.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        mode: MemoryBudgetMode = MemoryBudgetMode.NONE,
        model: str = "",
    ) -> None:
        if mode is not MemoryBudgetMode.NONE and limit_bytes is None:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"memory_budget_mode={mode.value!r} needs max_memory_bytes",
                option="max_memory_bytes",
            )
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()
        self._limit = limit_bytes
        self._mode = mode
        self._model = model
        self._current = dict.fromkeys(MemoryCategory, 0)
        self._high = dict.fromkeys(MemoryCategory, 0)

    @property
    def mode(self) -> MemoryBudgetMode:
        """What happens when the budget does not suffice."""
        return self._mode

    @property
    def free_bytes(self) -> int | None:
        """What may still be reserved; None without a limit."""
        if self._limit is None or self._mode is MemoryBudgetMode.NONE:
            return None
        with self._lock:
            return max(0, self._limit - sum(self._current.values()))

    def usage(self) -> tuple[BudgetUsage, ...]:
        """Reserved bytes by category."""
        with self._lock:
            return tuple(
                BudgetUsage(category, self._current[category], self._high[category])
                for category in MemoryCategory
            )

    def reserve(
        self,
        category: MemoryCategory,
        wanted_bytes: int,
        emitter: Emitter,
        *,
        least_bytes: int | None = None,
        granule_bytes: int = 1,
        hint: str = "",
    ) -> int:
        """Ask for memory.

        Args:
            category: what it is for.
            wanted_bytes: how much.
            emitter: publishes what came of it.
            least_bytes: what is still of use; the same as wanted when None.
            granule_bytes: a smaller grant is a multiple of this.
            hint: for the error: what would fit.

        Returns:
            Bytes granted, to be given back with ``release``.

        Raises:
            MemoryBudgetError: not even the least fits, or the mode is strict.
        """
        least = wanted_bytes if least_bytes is None else least_bytes
        with self._lock:
            taken = sum(self._current.values())
            free = wanted_bytes
            if self._limit is not None and self._mode is not MemoryBudgetMode.NONE:
                free = max(0, self._limit - taken)
            granted = wanted_bytes
            if free < wanted_bytes:
                granted = free // granule_bytes * granule_bytes
                if self._mode is MemoryBudgetMode.STRICT or granted < least:
                    granted = 0
            self._current[category] += granted
            risen = self._current[category] > self._high[category]
            if risen:
                self._high[category] = self._current[category]
            high = self._high[category]
        if granted < wanted_bytes:
            self._tell_shortage(emitter, category, wanted_bytes, granted)
            if not granted:
                raise MemoryBudgetError(
                    ReasonCode.MEMORY_BUDGET_EXCEEDED,
                    f"{category.value} needs {wanted_bytes} bytes; {free} of the budget of"
                    f" {self._limit} bytes are free ({taken} are taken)",
                    hint=hint or "raise max_memory_bytes",
                    category=category.value,
                    wanted_bytes=wanted_bytes,
                    free_bytes=free,
                    limit_bytes=self._limit,
                    taken_bytes=taken,
                )
        if risen and emitter.wants & EventKind.MEMORY_HIGH_WATER:
            emitter.publish(
                MemoryHighWater(
                    *emitter.header(),
                    model=self._model,
                    category=category.value,
                    high_water_bytes=high,
                )
            )
        return granted

    def _tell_shortage(
        self, emitter: Emitter, category: MemoryCategory, wanted: int, granted: int
    ) -> None:
        if emitter.wants & EventKind.MEMORY_BUDGET:
            emitter.publish(
                MemoryBudgetEvent(
                    *emitter.header(),
                    model=self._model,
                    reason=(
                        ReasonCode.MEMORY_BUDGET_SOFT_LIMIT
                        if granted
                        else ReasonCode.MEMORY_BUDGET_EXCEEDED
                    ),
                    category=category.value,
                    wanted_bytes=wanted,
                    granted_bytes=granted,
                    limit_bytes=self._limit or 0,
                )
            )

    def release(self, category: MemoryCategory, granted_bytes: int) -> None:
        """Give back what ``reserve`` granted."""
        with self._lock:
            self._current[category] -= granted_bytes

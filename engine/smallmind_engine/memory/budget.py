"""The memory budget: every large allocation is asked for here before it is made."""

from __future__ import annotations

import threading
from typing import Final

from smallmind_engine.memory.categories import BudgetUsage, MemoryBudgetMode, MemoryCategory
from smallmind_engine.telemetry import (
    Correlation,
    Emitter,
    EventBus,
    EventKind,
    MemoryBudgetEvent,
    MemoryHighWater,
    MemoryUsage,
    ReasonCode,
)
from smallmind_engine.telemetry.errors import ConfigError, MemoryBudgetError
from smallmind_engine.telemetry.fork import renew_in_child

NOTABLE_SHARE: Final = 16
"""A change by one part in so many of the most that a category ever had is told at once."""

NOTABLE_BYTES: Final = 1 << 20
"""A smaller change is not told, whatever its share, unless the category becomes empty."""


class BudgetEnforcer:
    """Counts what is reserved, and refuses or gives less as its mode says. Thread-safe.

    Args:
        limit_bytes: the budget for all categories together; needed unless the mode is ``NONE``.
        mode: see ``MemoryBudgetMode``.
        model: name for the events.
        bus: carries how much is in use; None when nobody is to be told.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        mode: MemoryBudgetMode = MemoryBudgetMode.NONE,
        model: str = "",
        bus: EventBus | None = None,
    ) -> None:
        if mode is not MemoryBudgetMode.NONE and limit_bytes is None:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"memory_budget_mode={mode.value!r} needs max_memory_bytes:"
                f" this system tells no limit of its own",
                option="max_memory_bytes",
            )
        self._limit = limit_bytes
        self._mode = mode
        self._model = model
        self._bus = bus
        self._current = dict.fromkeys(MemoryCategory, 0)
        self._high = dict.fromkeys(MemoryCategory, 0)
        self._told = dict.fromkeys(MemoryCategory, 0)
        self._untold = False
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with free locks, as in a forked child."""
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()
        self._telling = threading.Lock()

    @property
    def mode(self) -> MemoryBudgetMode:
        """What happens when the budget does not suffice."""
        return self._mode

    @property
    def limit_bytes(self) -> int | None:
        """The budget; None without one. It is only looked at when the mode is not ``NONE``."""
        return self._limit

    @property
    def taken_bytes(self) -> int:
        """What is reserved, of all categories."""
        with self._lock:
            return sum(self._current.values())

    @property
    def free_bytes(self) -> int | None:
        """What may still be reserved; None without a limit."""
        if self._limit is None or self._mode is MemoryBudgetMode.NONE:
            return None
        return max(0, self._limit - self.taken_bytes)

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
            before = dict(self._current)
            taken = sum(before.values())
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
            self._note(category)
        if granted < wanted_bytes:
            self._tell_shortage(emitter, category, wanted_bytes, granted)
            if not granted:
                held = {each.value: size for each, size in before.items() if size}
                raise MemoryBudgetError(
                    ReasonCode.MEMORY_BUDGET_EXCEEDED,
                    f"{category.value} needs {wanted_bytes} bytes; {free} of the budget of"
                    f" {self._limit} bytes are free ({taken} are taken{_listed(held)})",
                    hint=hint or "raise max_memory_bytes",
                    category=category.value,
                    wanted_bytes=wanted_bytes,
                    free_bytes=free,
                    limit_bytes=self._limit,
                    taken_bytes=taken,
                    taken_by_category=held,
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
        if self._untold:
            self.tell_usage(emitter.correlation)
        return granted

    def release(self, category: MemoryCategory, granted_bytes: int) -> None:
        """Give back what ``reserve`` granted."""
        with self._lock:
            self._current[category] -= granted_bytes
            self._note(category)
        if self._untold:
            self.tell_usage()

    def move(self, source: MemoryCategory, target: MemoryCategory, n_bytes: int) -> None:
        """Book memory that is taken already under another category; a negative size moves back."""
        if not n_bytes:
            return
        with self._lock:
            for category, change in ((source, -n_bytes), (target, n_bytes)):
                self._current[category] += change
                self._high[category] = max(self._high[category], self._current[category])
                self._note(category)
        if self._untold:
            self.tell_usage()

    def _note(self, category: MemoryCategory) -> None:
        """See whether a category has changed so much that it is told."""
        now, told = self._current[category], self._told[category]
        notable = max(NOTABLE_BYTES, self._high[category] // NOTABLE_SHARE)
        if abs(now - told) >= notable or (now == 0 and told != 0):
            self._untold = True

    def tell_usage(
        self, correlation: Correlation | None = None, *, everything: bool = False
    ) -> None:
        """Publish the use of each category that has changed since it was last told.

        One thread publishes at a time, and always what is true then: a reader that keeps the last
        event of each category ends with the right numbers, however many threads reserve.

        Args:
            correlation: ids of the events; the current ones when None.
            everything: also of categories that have not changed.
        """
        if self._bus is None or not self._bus.wants & EventKind.MEMORY_USAGE:
            self._untold = False
            return
        emitter = self._bus.emitter(correlation)
        self._untold = True
        while self._untold and self._telling.acquire(blocking=False):
            try:
                for usage in self._news(everything=everything):
                    emitter.publish(
                        MemoryUsage(
                            *emitter.header(),
                            model=self._model,
                            category=usage.category.value,
                            current_bytes=usage.current_bytes,
                            high_water_bytes=usage.high_water_bytes,
                            limit_bytes=self._limit or 0,
                        )
                    )
            finally:
                self._telling.release()
            everything = False

    def _news(self, *, everything: bool) -> tuple[BudgetUsage, ...]:
        """What is to be told now, noted as told."""
        with self._lock:
            self._untold = False
            changed = tuple(
                usage
                for usage in self.usage()
                if usage.high_water_bytes
                and (everything or usage.current_bytes != self._told[usage.category])
            )
            self._told.update((usage.category, usage.current_bytes) for usage in changed)
            return changed

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


def _listed(held: dict[str, int]) -> str:
    return "".join(f", {size} by {category}" for category, size in held.items())

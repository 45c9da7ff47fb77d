"""What one owner has reserved in a budget, given back all at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from smallmind_engine.memory.budget import BudgetEnforcer
from smallmind_engine.memory.categories import MemoryCategory
from smallmind_engine.telemetry import Emitter


class Reservation:
    """Reserved memory of several categories. Thread-safe; closing it again does nothing.

    Args:
        budget: where it is reserved.
    """

    def __init__(self, budget: BudgetEnforcer) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._held: list[tuple[MemoryCategory, int]] = []

    def take(self, shares: Iterable[tuple[MemoryCategory, int]], emitter: Emitter) -> None:
        """Reserve all shares, or none.

        Raises:
            MemoryBudgetError: one does not fit.
        """
        try:
            for category, wanted in shares:
                if wanted:
                    granted = self._budget.reserve(category, wanted, emitter)
                    with self._lock:
                        self._held.append((category, granted))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            held, self._held = self._held, []
        for category, granted in held:
            self._budget.release(category, granted)

"""What KV blocks cost: the memory budget and the engine's own limit are asked before each."""

from __future__ import annotations

from typing import Final

from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.memory import BudgetEnforcer, MemoryBudgetMode, MemoryCategory
from smallmind_engine.telemetry import Emitter, EventKind, MemoryBudgetEvent, ReasonCode
from smallmind_engine.telemetry.errors import MemoryBudgetError


class BlockAccount:
    """Counts blocks, of caches and shared ones alike, each once. Its owner does the locking.

    Args:
        budget: of the engine.
        block_bytes: of one block.
        most_blocks: the engine's own limit; None for none.
        model: name for the events.

    Attributes:
        block_bytes: as given.
        used: blocks that are taken now.
        rented: blocks ever taken.
        returned: blocks ever given back; ``rented - returned`` is ``used``.
    """

    def __init__(
        self, budget: BudgetEnforcer, block_bytes: int, most_blocks: int | None, model: str
    ) -> None:
        self._budget = budget
        self._most = most_blocks
        self._model = model
        self.block_bytes: Final = block_bytes
        self._idle = 0
        self.used = 0
        self.rented = 0
        self.returned = 0

    @property
    def free_blocks(self) -> int | None:
        """Blocks that may still be taken; None without a limit."""
        free_bytes = self._budget.free_bytes
        free = None
        if free_bytes is not None and self.block_bytes:  # an encoder's blocks take nothing
            free = free_bytes // self.block_bytes
        if self._most is None:
            return free
        left = max(0, self._most - self.used)
        return left if free is None else min(free, left)

    def take(self, wanted: int, least: int, emitter: Emitter, *, held: int = 0) -> int:
        """Take blocks.

        Args:
            wanted: how many, at least 1.
            least: how many are still of use; 0 or less when what is held already would do.
            emitter: publishes what came of it.
            held: blocks that the sequence has already, for the hint of an error.

        Returns:
            How many may be used; to be given back with ``give_back``.

        Raises:
            MemoryBudgetError: not even the least is free, or the mode is strict.
        """
        fits = ((self.free_blocks or 0) + held) * BLOCK_TOKENS
        within = self._within_limit(wanted, least, emitter, fits)
        if not within:
            return 0
        hint = f"prompt and max_tokens together may have {fits} tokens"
        try:
            granted = self._budget.reserve(
                MemoryCategory.KV_CACHE,
                within * self.block_bytes,
                emitter,
                least_bytes=max(least, 1) * self.block_bytes,
                granule_bytes=self.block_bytes,
                hint=hint if fits else "raise max_memory_bytes",
            )
        except MemoryBudgetError:
            if least > 0 or self._budget.mode is not MemoryBudgetMode.BEST_EFFORT:
                raise
            return 0
        blocks = granted // self.block_bytes
        self.used += blocks
        self.rented += blocks
        return blocks

    def _within_limit(self, wanted: int, least: int, emitter: Emitter, fits: int) -> int:
        """What the engine's own limit allows of ``wanted``."""
        if self._most is None or self.used + wanted <= self._most:
            return wanted
        left = max(0, self._most - self.used)
        refused = left < least or self._budget.mode is MemoryBudgetMode.STRICT
        if emitter.wants & EventKind.MEMORY_BUDGET:
            emitter.publish(
                MemoryBudgetEvent(
                    *emitter.header(),
                    model=self._model,
                    reason=(
                        ReasonCode.MEMORY_BUDGET_EXCEEDED
                        if refused
                        else ReasonCode.MEMORY_BUDGET_SOFT_LIMIT
                    ),
                    category=MemoryCategory.KV_CACHE.value,
                    wanted_bytes=wanted * self.block_bytes,
                    granted_bytes=0 if refused else left * self.block_bytes,
                    limit_bytes=self._most * self.block_bytes,
                )
            )
        if refused:
            raise MemoryBudgetError(
                ReasonCode.MEMORY_BUDGET_EXCEEDED,
                f"the request needs {wanted * BLOCK_TOKENS} tokens of KV cache;"
                f" {left * BLOCK_TOKENS} of max_kv_tokens={self._most * BLOCK_TOKENS} are free",
                hint=f"prompt and max_tokens together may have {fits} tokens",
                category=MemoryCategory.KV_CACHE.value,
                wanted_bytes=wanted * self.block_bytes,
                free_bytes=left * self.block_bytes,
                limit_bytes=self._most * self.block_bytes,
                taken_bytes=self.used * self.block_bytes,
            )
        return left

    def book_idle(self, blocks: int) -> None:
        """So many of the blocks are kept for prompts to come, and used by nobody now."""
        moved = (blocks - self._idle) * self.block_bytes
        self._idle = blocks
        self._budget.move(MemoryCategory.KV_CACHE, MemoryCategory.PREFIX_STORE, moved)

    def give_back(self, blocks: int) -> None:
        """End the use of blocks."""
        self._budget.release(MemoryCategory.KV_CACHE, blocks * self.block_bytes)
        self.used -= blocks
        self.returned += blocks

"""KV caches of running requests and idle sessions, within the memory budget."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from smallmind_engine.cache import BLOCK_TOKENS, KVCache, round_up_to_block
from smallmind_engine.kernels import ModelRunner
from smallmind_engine.memory import BudgetEnforcer, MemoryBudgetMode, MemoryCategory
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    Emitter,
    EventKind,
    KVCacheEvicted,
    KVCacheLookup,
    KVCacheUsage,
)
from smallmind_engine.telemetry.errors import MemoryBudgetError


@dataclass(slots=True, eq=False)
class CacheSlot:
    """A sequence's cache and what is in it.

    Attributes:
        cache: None until the first use, and after an eviction.
        token_ids: of the tokens in the cache, in order.
        granted_bytes: reserved in the budget.
        in_use: whether a request works on it now; such a slot is never evicted.
        last_use: grows with each use; the smallest is evicted first.
    """

    cache: KVCache | None = None
    token_ids: list[int] = field(default_factory=list)
    granted_bytes: int = 0
    in_use: bool = False
    last_use: int = 0


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common beginning.

    >>> common_prefix([1, 2, 3], [1, 2, 4, 5])
    2
    """
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length


class KVStore:
    """Lends caches. Thread-safe; a lent slot belongs to its request until it is returned.

    Args:
        runner: makes the caches.
        budget: asked before one is made or grows.
        model: name for the events.
    """

    def __init__(self, runner: ModelRunner, budget: BudgetEnforcer, model: str) -> None:
        self._runner = runner
        self._budget = budget
        self._model = model
        self._bytes_per_token = runner.kv_bytes_per_token
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()
        self._slots: set[CacheSlot] = set()
        self._closed = False
        self._clock = itertools.count(1)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token over all layers."""
        return self._bytes_per_token

    def lend(
        self,
        slot: CacheSlot,
        token_ids: Sequence[int],
        capacity: int,
        emitter: Emitter,
    ) -> tuple[KVCache, int]:
        """Prepare ``slot`` for a request.

        Args:
            slot: of a session, or a fresh one.
            token_ids: the whole prompt.
            capacity: tokens that the request needs in all.
            emitter: of the request.

        Returns:
            The cache, cut to the part of the prompt that it already holds, and the length of
            that part. It may have less capacity than asked for when the budget is short.

        Raises:
            MemoryBudgetError: the budget does not even hold the prompt and one token.
        """
        with self._lock:
            slot.in_use = True
            slot.last_use = next(self._clock)
            try:
                reused = self._prepare(slot, token_ids, capacity, emitter)
            except BaseException:
                slot.in_use = False
                raise
            self._slots.add(slot)
        cache = slot.cache
        if cache is None:  # pragma: no cover - _prepare sets it or raises
            raise AssertionError
        return cache, reused

    def _prepare(
        self, slot: CacheSlot, token_ids: Sequence[int], capacity: int, emitter: Emitter
    ) -> int:
        # The last token of a prompt is always computed: its logits are needed.
        reused = min(common_prefix(slot.token_ids, token_ids), len(token_ids) - 1)
        if slot.cache is None:
            reused = 0
        least = len(token_ids) + 1
        held = slot.cache.capacity if slot.cache is not None else 0
        if capacity > held:
            rows = self._reserve(slot, capacity, max(least, held), emitter)
            if slot.cache is None:
                slot.cache = self._runner.new_cache(rows)
            else:
                slot.cache.truncate(reused)
                slot.cache.reserve(rows)
        if slot.cache is not None:
            slot.cache.truncate(reused)
        del slot.token_ids[reused:]
        return reused

    def _reserve(self, slot: CacheSlot, capacity: int, least: int, emitter: Emitter) -> int:
        """Grow the slot's share of the budget; answers the tokens it holds."""
        granule = BLOCK_TOKENS * self._bytes_per_token
        wanted = round_up_to_block(capacity) * self._bytes_per_token - slot.granted_bytes
        needed = round_up_to_block(least) * self._bytes_per_token - slot.granted_bytes
        self._evict_for(wanted, emitter)
        held = slot.granted_bytes // self._bytes_per_token
        if needed <= 0 < wanted and self._budget.mode is MemoryBudgetMode.BEST_EFFORT:
            try:
                granted = self._budget.reserve(
                    MemoryCategory.KV_CACHE,
                    wanted,
                    emitter,
                    least_bytes=granule,
                    granule_bytes=granule,
                )
            except MemoryBudgetError:  # what the slot already holds is enough
                granted = 0
        else:
            granted = self._budget.reserve(
                MemoryCategory.KV_CACHE,
                wanted,
                emitter,
                least_bytes=needed,
                granule_bytes=granule,
                hint=self._hint(held),
            )
        slot.granted_bytes += granted
        return slot.granted_bytes // self._bytes_per_token

    def _hint(self, held: int) -> str:
        free = self._budget.free_bytes or 0
        fits = (held + free // self._bytes_per_token) // BLOCK_TOKENS * BLOCK_TOKENS
        if fits <= 0:
            return "raise max_memory_bytes"
        return f"prompt and max_tokens together may have {fits} tokens"

    def _evict_for(self, wanted: int, emitter: Emitter) -> None:
        """Drop idle caches, least recently used first, until ``wanted`` bytes are free."""
        idle = sorted(
            (slot for slot in tuple(self._slots) if not slot.in_use and slot.cache is not None),
            key=lambda slot: slot.last_use,
        )
        for slot in idle:
            free = self._budget.free_bytes
            if free is None or free >= wanted:
                return
            tokens, freed = len(slot.token_ids), slot.granted_bytes
            self._drop(slot)
            self._tell_eviction(emitter, tokens, freed)

    def _tell_eviction(self, emitter: Emitter, tokens: int, freed: int) -> None:
        reason = DegradeReason.KV_CACHE_EVICTION
        if emitter.wants & EventKind.KV_CACHE_EVICTED:
            emitter.publish(
                KVCacheEvicted(
                    *emitter.header(),
                    model=self._model,
                    tokens=tokens,
                    freed_bytes=freed,
                    reason=reason,
                )
            )
        if emitter.wants & EventKind.DEGRADED:
            emitter.publish(
                Degraded(
                    *emitter.header(),
                    component="kv_cache",
                    reason=reason,
                    message=f"an idle session's cache of {tokens} tokens was dropped",
                )
            )

    def _drop(self, slot: CacheSlot) -> None:
        self._budget.release(MemoryCategory.KV_CACHE, slot.granted_bytes)
        slot.granted_bytes = 0
        if slot.cache is not None:
            slot.cache.release()
        slot.cache = None
        slot.token_ids = []
        self._slots.discard(slot)

    def tell_lookup(self, emitter: Emitter, prompt_tokens: int, reused: int) -> None:
        """Publish what a session's cache was worth."""
        if emitter.wants & EventKind.KV_CACHE_LOOKUP:
            emitter.publish(
                KVCacheLookup(
                    *emitter.header(),
                    model=self._model,
                    hit=reused > 0,
                    prompt_tokens=prompt_tokens,
                    reused_tokens=reused,
                )
            )

    def tell_usage(self, emitter: Emitter) -> None:
        """Publish how full the caches are."""
        if emitter.wants & EventKind.KV_CACHE_USAGE:
            used, capacity = self.usage()
            emitter.publish(
                KVCacheUsage(
                    *emitter.header(),
                    model=self._model,
                    used_tokens=used,
                    capacity_tokens=capacity,
                    used_bytes=used * self._bytes_per_token,
                )
            )

    def usage(self) -> tuple[int, int]:
        """Tokens in the caches, and tokens that they have room for."""
        with self._lock:
            caches = [slot.cache for slot in tuple(self._slots) if slot.cache is not None]
            return sum(c.length for c in caches), sum(c.capacity for c in caches)

    def give_back(self, slot: CacheSlot, *, keep: bool) -> None:
        """End a request's use of ``slot``; ``keep`` its content for the next turn or not."""
        with self._lock:
            slot.in_use = False
            if slot.cache is not None and (self._closed or not keep):
                self._drop(slot)

    def close(self) -> None:
        """Drop all caches; those that requests still work on, when they give them back."""
        with self._lock:
            self._closed = True
            for slot in tuple(self._slots):
                if not slot.in_use:
                    self._drop(slot)

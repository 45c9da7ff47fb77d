"""KV caches of running requests and idle sessions, and the prefixes they share, within a budget."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from smallmind_engine.cache import (
    BLOCK_TOKENS,
    KVCache,
    PrefixMatch,
    PrefixTree,
    blocks_for,
    common_prefix,
)
from smallmind_engine.kernels import ModelRunner
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.runtime.block_account import BlockAccount
from smallmind_engine.runtime.kv_events import (
    tell_lookup,
    tell_usage,
)
from smallmind_engine.runtime.kv_matching import matched
from smallmind_engine.runtime.kv_room import KVRoom
from smallmind_engine.runtime.kv_slot import (
    BlockCounts,
    CacheSlot,
    LendingPlan,
    PrefixCounts,
)
from smallmind_engine.runtime.prefix_sharing import LEAST_COPIED, PrefixSharing
from smallmind_engine.runtime.prefix_store import PrefixStore
from smallmind_engine.telemetry import Emitter

_LEAST_AWAITED: Final = 16
"""The fewest tokens that another is just computing for which a prompt waits."""


class KVStore:
    """Lends caches. Thread-safe; a lent slot belongs to its request until it is returned.

    Args:
        runner: makes the caches.
        budget: asked before one is made or grows.
        model: name for the events.
        sharing: whether prompts are looked up among the blocks of others.
        most_idle_blocks: shared blocks that are kept although no sequence uses them.
        most_blocks: blocks in all; None for no limit but the budget's.

    Attributes:
        counts: what the caches were worth so far.
    """

    def __init__(
        self,
        runner: ModelRunner,
        budget: BudgetEnforcer,
        model: str,
        *,
        sharing: bool = True,
        most_idle_blocks: int = 0,
        most_blocks: int | None = None,
    ) -> None:
        self._runner = runner
        self._model = model
        self._bytes_per_token = runner.kv_bytes_per_token
        self._sharing = sharing
        self._account = BlockAccount(
            budget, self._bytes_per_token * BLOCK_TOKENS, most_blocks, model
        )
        self._tree = PrefixTree()
        self._prefixes = PrefixStore(
            self._tree, self._account, most_idle_blocks if sharing else 0, model
        )
        self._by_reference = runner.new_cache(0).shares_memory
        self._offers = PrefixSharing(
            self._tree, self._prefixes, self._account, by_reference=self._by_reference
        )
        self._room = KVRoom(self._tree, self._prefixes, self._account, model)
        self._closed = False
        self._abandoned: deque[CacheSlot] = deque()
        self.counts = PrefixCounts()
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token over all layers."""
        return self._bytes_per_token

    # -- lending ------------------------------------------------------------------------------

    def plan(
        self,
        slot: CacheSlot,
        token_ids: Sequence[int],
        capacity: int,
        emitter: Emitter,
        *,
        patient: bool,
    ) -> LendingPlan | None:
        """Look a prompt up, and make room for it.

        Args:
            slot: of a session, or a fresh one.
            token_ids: the whole prompt.
            capacity: tokens that the request needs in all.
            emitter: of the request.
            patient: rather wait for others to end than do with less.

        Returns:
            The plan, to be followed by ``lend``; None when the request has to wait.
        """
        with self._lock:
            self._collect()
            if slot.in_use:
                return None
            slot.in_use = True
            slot.last_use = self._tree.tick()
            plan = self._made_plan(slot, token_ids, capacity)
            if not self._room.make(plan.wanted, emitter, in_vain=not patient) and plan.held:
                # Copies, and what they are made of, take room that is needed now.
                self._tree.let_go(plan.held)
                plan = self._made_plan(slot, token_ids, capacity, copying=False)
                self._room.make(plan.wanted, emitter, in_vain=not patient)
            if patient and not self._prefixes.has_free(plan.wanted):
                self._tree.let_go(plan.held)
                slot.in_use = False
                return None
            return plan

    def _made_plan(
        self,
        slot: CacheSlot,
        token_ids: Sequence[int],
        capacity: int,
        *,
        copying: bool = True,
    ) -> LendingPlan:
        tree = self._tree if self._sharing else None
        match, reused = matched(
            slot, token_ids, tree, whole_only=not copying, any_copied=copying or self._by_reference
        )
        kept = len(slot.shared) + slot.own_blocks
        if match is not None:
            self._tree.hold(match.all_blocks)
            self._room.drop(slot)
            kept = len(match.blocks) if self._by_reference else 0
        wanted = blocks_for(capacity) - kept
        least = blocks_for(len(token_ids) + 1) - kept
        return LendingPlan(slot, token_ids, match, reused, max(wanted, 0), least)

    def would_share(self, token_ids: Sequence[int], others: Sequence[int]) -> bool:
        """Whether a prompt is to wait for what a request with the tokens ``others`` computes.

        For less than some tokens, the wait for a step takes longer than to compute them.
        """
        if not self._sharing:
            return False
        common = min(common_prefix(token_ids, others), len(token_ids) - 1)
        rest = common % BLOCK_TOKENS
        if rest < LEAST_COPIED or 2 * common < len(others):  # not worth the wait for the whole
            common -= rest
        if common < _LEAST_AWAITED:
            return False
        with self._lock:
            return self._tree.find(token_ids, common).tokens <= common - _LEAST_AWAITED

    def lend(
        self, plan: LendingPlan, emitter: Emitter, *, told: bool = True
    ) -> tuple[KVCache, int]:
        """Follow a plan.

        Args:
            plan: as made.
            emitter: of the request.
            told: whether this counts as a lookup of a prompt.

        Returns:
            The cache, cut to the part of the prompt that it already holds, and the length of
            that part. It may have less capacity than asked for when the budget is short.

        Raises:
            MemoryBudgetError: the budget does not even hold the prompt and one token.
        """
        slot, match = plan.slot, plan.match
        with self._lock:
            held = len(slot.shared) + slot.own_blocks
            if match is not None and self._by_reference:
                held = len(match.blocks)
            try:
                if plan.wanted:
                    slot.own_blocks += self._account.take(
                        plan.wanted, plan.least, emitter, held=held
                    )
            except BaseException:
                self._tree.let_go(plan.held)
                slot.in_use = False
                raise
            try:
                self._room.slots.add(slot)
                cache = self._filled(slot, match)
            except BaseException:  # memory that the budget allows, and the machine does not have
                self._room.drop(slot)
                slot.in_use = False
                raise
            cache.truncate(plan.reused)
            slot.token_ids = list(plan.token_ids[: plan.reused])
            if told:
                self.counts.note(len(plan.token_ids), plan.reused)
        if told:
            tell_lookup(emitter, self._model, len(plan.token_ids), plan.reused)
        return cache, plan.reused

    def _filled(self, slot: CacheSlot, match: PrefixMatch | None) -> KVCache:
        """The slot's cache with room for all its blocks, and with what the match brings."""
        whole = () if match is None else match.blocks
        copied = () if match is None else match.all_blocks
        if self._by_reference:
            slot.shared.extend(whole)
            copied = copied[len(whole) :]
        try:
            rows = (len(slot.shared) + slot.own_blocks) * BLOCK_TOKENS
            if slot.cache is None:
                slot.cache = self._runner.new_cache(0 if self._by_reference else rows)
            cache = slot.cache
            if match is not None:
                cache.use_blocks([block.content for block in whole])
            cache.reserve(rows)
            if match is not None and match.partial is not None:
                cache.copy_block(len(whole), match.partial.content)
                cache.length += match.partial_tokens
        finally:
            if copied:
                self._prefixes.let_go(copied)
        return cache

    # -- sharing ------------------------------------------------------------------------------

    def share(self, slot: CacheSlot, emitter: Emitter) -> None:
        """Let others find the full blocks of a slot that is in use."""
        if self._sharing:
            with self._lock:
                self._offers.share(slot, emitter)

    def share_rest(self, slot: CacheSlot, token_ids: Sequence[int], emitter: Emitter) -> None:
        """Let a prompt find the last block of a running request, if they have it in common.

        Args:
            slot: of the request; no step works on it now.
            token_ids: of the prompt.
            emitter: of the prompt's request.
        """
        if self._sharing:
            with self._lock:
                self._offers.share_rest(slot, token_ids, emitter)

    def fork(self, slot: CacheSlot, emitter: Emitter) -> CacheSlot:
        """A second slot with the content of an idle one, as far as there is memory for it."""
        new = CacheSlot()
        with self._lock:
            cache = slot.cache
            if cache is None or slot.in_use or self._closed:
                return new
            slot.last_use = new.last_use = self._tree.tick()
            if self._by_reference:
                self._offers.share(slot, emitter)
            shared = list(slot.shared)
            copied = blocks_for(len(slot.token_ids)) - len(shared)
            if not self._prefixes.has_free(copied) or (
                copied and self._account.take(copied, copied, emitter) != copied
            ):
                copied = 0
            new.cache = self._runner.new_cache(0)
            new.cache.use_blocks([block.content for block in shared])
            self._tree.hold(shared)
            new.shared, new.own_blocks = shared, copied
            new.cache.reserve((len(shared) + copied) * BLOCK_TOKENS)
            for index in range(len(shared), len(shared) + copied):
                block = cache.share_block(index)
                new.cache.copy_block(index, block)
                block.release()
            new.cache.length = min(len(slot.token_ids), new.cache.capacity)
            new.token_ids = slot.token_ids[: new.cache.length]
            self._room.slots.add(new)
        return new

    # -- the end ------------------------------------------------------------------------------

    def give_back(
        self, slot: CacheSlot, *, keep: bool, emitter: Emitter | None = None, sound: bool = False
    ) -> None:
        """End a request's use of ``slot``.

        Args:
            slot: as it was lent.
            keep: whether its content stays for the next turn.
            emitter: of the request.
            sound: whether others may use what was computed.
        """
        with self._lock:
            slot.in_use = False
            if slot.cache is None:
                if slot.own_blocks:  # Ctrl-C came when they were taken
                    self._room.drop(slot)
                return
            if sound and self._sharing and not self._closed and emitter is not None:
                self._offers.share(slot, emitter, to_the_end=not keep)
            if self._closed or not keep:
                self._room.drop(slot)
            self._prefixes.keep_few(emitter)
            if self._closed:
                self._prefixes.forget_all()

    def abandon(self, slot: CacheSlot) -> None:
        """Nobody will use a slot any more; called by finalizers, so its cache is dropped later."""
        self._abandoned.append(slot)

    def _collect(self) -> None:
        """Drop the caches of abandoned slots, but of those that a request still ends with."""
        for _ in range(len(self._abandoned)):
            slot = self._abandoned.popleft()
            if slot.in_use:
                self._abandoned.append(slot)
            else:
                self._room.drop(slot)
                self._prefixes.keep_few(None)

    def tell_usage(self, emitter: Emitter) -> None:
        """Publish how full the caches are."""
        used, capacity = self.usage()
        tell_usage(emitter, self._model, used, capacity, self._bytes_per_token)

    def usage(self) -> tuple[int, int]:
        """Tokens in the caches, shared ones counted once, and tokens they have room for."""
        with self._lock:
            self._collect()
            own = sum(
                slot.cache.length - min(len(slot.shared) * BLOCK_TOKENS, slot.cache.length)
                for slot in tuple(self._room.slots)
                if slot.cache is not None
            )
            return own + self._tree.tokens, self._account.used * BLOCK_TOKENS

    def blocks(self) -> BlockCounts:
        """How many blocks there are, and have been."""
        account, tree = self._account, self._tree
        with self._lock:
            self._collect()
            return BlockCounts(
                used=account.used,
                free=account.free_blocks,
                rented=account.rented,
                returned=account.returned,
                shared=tree.blocks,
                idle=tree.idle_blocks,
                evicted=self._prefixes.evicted,
            )

    def close(self) -> None:
        """Drop all caches; those that requests still work on, when they give them back."""
        with self._lock:
            self._closed = True
            for slot in tuple(self._room.slots):
                if not slot.in_use:
                    self._room.drop(slot)
            self._prefixes.forget_all()

"""Shared blocks and what they cost: kept as long as there is room, the last used the longest."""

from __future__ import annotations

from collections.abc import Sequence

from smallmind_engine.cache import BLOCK_TOKENS, PrefixBlock, PrefixTree
from smallmind_engine.runtime.block_account import BlockAccount
from smallmind_engine.runtime.kv_events import tell_eviction
from smallmind_engine.telemetry import Emitter


class PrefixStore:
    """The tree of shared blocks, each of them paid for. Its owner does the locking.

    Args:
        tree: of the blocks.
        account: pays for them.
        most_idle: blocks that are kept although no sequence uses them.
        model: name for the events.

    Attributes:
        evicted: blocks that were dropped to make room.
    """

    def __init__(self, tree: PrefixTree, account: BlockAccount, most_idle: int, model: str) -> None:
        self._tree = tree
        self._account = account
        self._most_idle = most_idle
        self._model = model
        self.evicted = 0

    def has_free(self, blocks: int) -> bool:
        """Whether so many blocks may be taken now."""
        free = self._account.free_blocks
        return free is None or free >= blocks

    def evict(self) -> bool:
        """Drop the least recently used block that no sequence uses; False without one."""
        if not self._tree.evict():
            return False
        self._give_back()
        self.evicted += 1
        return True

    def forget_unused(self, blocks: Sequence[PrefixBlock], wanted: int) -> None:
        """Drop those of a sequence's blocks that no other uses, until ``wanted`` are free."""
        for block in reversed(blocks):
            if self.has_free(wanted) or not self._tree.may_forget(block):
                break
            self._tree.forget(block)
            self._give_back()

    def forget_outdone(self, block: PrefixBlock) -> None:
        """Drop what a new block holds too, and more."""
        for other in self._tree.outdone(block):
            self._tree.forget(other)
            self._give_back()

    def forget_all(self) -> None:
        """Drop all that no sequence uses."""
        while self._tree.evict():
            self._give_back()

    def let_go(self, blocks: Sequence[PrefixBlock], emitter: Emitter | None = None) -> None:
        """A sequence does not use these blocks, given in its order, any more."""
        self._tree.let_go(blocks)
        self.keep_few(emitter)

    def keep_few(self, emitter: Emitter | None) -> None:
        """Drop blocks beyond those that may be kept although nobody uses them."""
        dropped = 0
        while self._tree.idle_blocks > self._most_idle and self.evict():
            dropped += 1
        self.book_idle()
        self.tell_evicted(dropped, emitter)

    def book_idle(self) -> None:
        """Have the blocks that no sequence uses booked as what they are."""
        self._account.book_idle(self._tree.idle_blocks)

    def _give_back(self) -> None:
        """Give back a block that nobody used."""
        self.book_idle()
        self._account.give_back(1)

    def take_for_copy(self, emitter: Emitter) -> bool:
        """Pay for a block, if one is free or can be made so."""
        if not self.has_free(1):
            if not self.evict():
                return False
            self.tell_evicted(1, emitter)
        return self._account.take(1, 0, emitter) == 1

    def tell_evicted(self, blocks: int, emitter: Emitter | None) -> None:
        """Publish that so many blocks were dropped."""
        if blocks and emitter is not None:
            tell_eviction(
                emitter, self._model, blocks * BLOCK_TOKENS, blocks * self._account.block_bytes
            )

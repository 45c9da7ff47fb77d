"""What a sequence lets others find: its full blocks, and the last one as far as that is safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smallmind_engine.cache import (
    BLOCK_TOKENS,
    KVBlock,
    PrefixBlock,
    PrefixTree,
    common_prefix,
)
from smallmind_engine.runtime.block_account import BlockAccount
from smallmind_engine.runtime.kv_slot import CacheSlot
from smallmind_engine.runtime.prefix_store import PrefixStore
from smallmind_engine.telemetry import Emitter

LEAST_COPIED: Final = 4
"""Tokens in common with a running request for which its last block is copied."""
_LEAST_REST: Final = 16
"""Tokens behind full blocks for which another is kept that is not full."""


class PrefixSharing:
    """Puts blocks of sequences into the tree. Its owner does the locking.

    Args:
        tree: of the blocks.
        prefixes: what they cost.
        account: pays for blocks that sequences give back.
        by_reference: whether a shared block is the very memory of the caches that use it.
    """

    def __init__(
        self,
        tree: PrefixTree,
        prefixes: PrefixStore,
        account: BlockAccount,
        *,
        by_reference: bool,
    ) -> None:
        self._tree = tree
        self._prefixes = prefixes
        self._account = account
        self._by_reference = by_reference

    def share(self, slot: CacheSlot, emitter: Emitter, *, to_the_end: bool = False) -> None:
        """Let others find the full blocks, and the last one too when nothing will follow in it."""
        cache = slot.cache
        if cache is None:
            return
        known = slot.shared if self._by_reference else []
        parent = known[-1] if known else None
        passed: list[PrefixBlock] = []
        full = cache.length // BLOCK_TOKENS
        with_rest = to_the_end and full > 0 and cache.length % BLOCK_TOKENS >= _LEAST_REST
        for index in range(len(known), full + with_rest):
            ids = _block_ids(slot, index, cache.length)
            if index == full and self._tree.begins(parent, ids):
                break
            block = self._tree.get(parent, ids)
            if block is not None:
                self._tree.hold([block])
                if self._by_reference:
                    cache.swap_block(index, block.content)
                    self._account.give_back(1)
                    slot.own_blocks -= 1
            else:
                if self._by_reference:
                    slot.own_blocks -= 1  # from now on it is the tree's
                elif not self._prefixes.take_for_copy(emitter):
                    break
                block = self._added(parent, ids, cache.share_block(index))
            (slot.shared if self._by_reference else passed).append(block)
            parent = block
        self._prefixes.let_go(passed, emitter)

    def share_rest(self, slot: CacheSlot, token_ids: Sequence[int], emitter: Emitter) -> None:
        """Copy the last block of a running request, if a prompt has enough of it in common."""
        cache = slot.cache
        if cache is None:
            return
        common = common_prefix(slot.token_ids, token_ids)
        common = min(common, cache.length, len(token_ids) - 1)
        whole, rest = divmod(common, BLOCK_TOKENS)
        if rest < LEAST_COPIED:
            return
        match = self._tree.find(token_ids, common)
        if len(match.blocks) < whole or common - match.tokens < LEAST_COPIED:
            return
        parent = match.blocks[-1] if match.blocks else None
        ids = _block_ids(slot, whole, cache.length)
        # It may be there although it was not found: not all branches are looked at.
        if self._tree.begins(parent, ids) or not self._prefixes.take_for_copy(emitter):
            return
        block = self._added(parent, ids, cache.copied_block(whole))
        self._prefixes.let_go([block], emitter)

    def _added(
        self, parent: PrefixBlock | None, ids: tuple[int, ...], content: KVBlock
    ) -> PrefixBlock:
        block = self._tree.add(parent, ids, content)
        self._prefixes.forget_outdone(block)
        return block


def _block_ids(slot: CacheSlot, index: int, length: int) -> tuple[int, ...]:
    """The tokens of a block, as far as they are in a cache of that length."""
    end = min((index + 1) * BLOCK_TOKENS, length)
    return tuple(slot.token_ids[index * BLOCK_TOKENS : end])

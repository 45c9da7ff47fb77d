"""Making room for KV caches: what nobody uses is dropped, least recently used first."""

from __future__ import annotations

from smallmind_engine.cache import PrefixTree
from smallmind_engine.runtime.block_account import BlockAccount
from smallmind_engine.runtime.kv_events import tell_eviction, tell_lost_session
from smallmind_engine.runtime.kv_slot import CacheSlot
from smallmind_engine.runtime.prefix_store import PrefixStore
from smallmind_engine.telemetry import Emitter


class KVRoom:
    """The slots with a cache, and the shared blocks. Its owner does the locking.

    Args:
        tree: of the shared blocks.
        prefixes: what they cost.
        account: pays for all blocks.
        model: name for the events.

    Attributes:
        slots: those with a cache.
    """

    def __init__(
        self, tree: PrefixTree, prefixes: PrefixStore, account: BlockAccount, model: str
    ) -> None:
        self._tree = tree
        self._prefixes = prefixes
        self._account = account
        self._model = model
        self.slots: set[CacheSlot] = set()

    def make(self, wanted: int, emitter: Emitter | None, *, in_vain: bool) -> bool:
        """Drop what nobody uses, least recently used first, until ``wanted`` blocks are free.

        Args:
            wanted: how many.
            emitter: publishes what was dropped.
            in_vain: drop it also when it is not enough.

        Returns:
            Whether so many are free.
        """
        if not in_vain and not self._could_have(wanted):
            return False
        dropped = 0
        while not self._prefixes.has_free(wanted):
            slot = min(
                (s for s in tuple(self.slots) if not s.in_use and s.cache is not None),
                key=lambda s: s.last_use,
                default=None,
            )
            oldest = self._tree.oldest_use
            if slot is not None and (oldest is None or slot.last_use < oldest):
                self._evict_slot(slot, wanted, emitter)
            elif self._prefixes.evict():
                dropped += 1
            else:
                break
        self._prefixes.tell_evicted(dropped, emitter)
        return self._prefixes.has_free(wanted)

    def _could_have(self, wanted: int) -> bool:
        """Whether dropping all that nobody uses may be enough."""
        idle = [slot for slot in tuple(self.slots) if not slot.in_use]
        unused = sum(slot.own_blocks + len(slot.shared) for slot in idle)
        return self._prefixes.has_free(wanted - unused - self._tree.idle_blocks)

    def _evict_slot(self, slot: CacheSlot, wanted: int, emitter: Emitter | None) -> None:
        tokens, before, shared = len(slot.token_ids), self._account.used, list(slot.shared)
        self.drop(slot)
        self._prefixes.forget_unused(shared, wanted)
        freed = before - self._account.used
        self._prefixes.evicted += freed
        if emitter is not None:
            tell_eviction(emitter, self._model, tokens, freed * self._account.block_bytes)
            tell_lost_session(emitter, tokens)

    def drop(self, slot: CacheSlot) -> None:
        """Empty a slot."""
        own, slot.own_blocks = slot.own_blocks, 0
        self._account.give_back(own)
        if slot.cache is not None:
            slot.cache.release()
        slot.cache = None
        slot.token_ids = []
        shared, slot.shared = slot.shared, []
        self._tree.let_go(shared)
        self.slots.discard(slot)

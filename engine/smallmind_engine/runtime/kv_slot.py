"""A sequence's place in the KV store, and how a request comes to its cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from smallmind_engine.cache import KVCache, PrefixBlock, PrefixMatch


@dataclass(slots=True, eq=False)
class CacheSlot:
    """A sequence's cache and what is in it.

    Attributes:
        cache: None until the first use, and after an eviction.
        token_ids: of the tokens in the cache, in order.
        shared: blocks at its beginning that others may use too.
        own_blocks: blocks after those, which nobody else sees.
        in_use: whether a request works on it now; such a slot is never evicted.
        last_use: grows with each use; the smallest is evicted first.
    """

    cache: KVCache | None = None
    token_ids: list[int] = field(default_factory=list)
    shared: list[PrefixBlock] = field(default_factory=list)
    own_blocks: int = 0
    in_use: bool = False
    last_use: int = 0


@dataclass(frozen=True, slots=True)
class LendingPlan:
    """How a request gets its cache; made by ``KVStore.plan``.

    Attributes:
        slot: of the request.
        token_ids: the whole prompt.
        match: what it takes over from others; None when it goes on with the slot's own cache.
        reused: tokens that need not be computed.
        wanted: blocks to be taken.
        least: blocks without which it cannot begin.
    """

    slot: CacheSlot
    token_ids: Sequence[int]
    match: PrefixMatch | None
    reused: int
    wanted: int
    least: int


@dataclass(slots=True)
class PrefixCounts:
    """What the caches were worth so far.

    Attributes:
        lookups: prompts that were looked up.
        hits: those of which any token could be reused.
        queried_tokens: tokens of all prompts.
        hit_tokens: those of them that were reused.
        evicted_blocks: blocks that were dropped to make room.
    """

    lookups: int = 0
    hits: int = 0
    queried_tokens: int = 0
    hit_tokens: int = 0
    evicted_blocks: int = 0

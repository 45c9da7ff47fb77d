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

    @property
    def held(self) -> tuple[PrefixBlock, ...]:
        """Blocks of others that must not be dropped before the plan was followed."""
        return () if self.match is None else self.match.all_blocks


@dataclass(slots=True)
class PrefixCounts:
    """What the caches were worth so far.

    Attributes:
        lookups: prompts that were looked up.
        hits: those of which any token could be reused.
        queried_tokens: tokens of all prompts.
        hit_tokens: those of them that were reused.
    """

    lookups: int = 0
    hits: int = 0
    queried_tokens: int = 0
    hit_tokens: int = 0

    def note(self, prompt_tokens: int, reused: int) -> None:
        """Count a lookup."""
        self.lookups += 1
        self.hits += reused > 0
        self.queried_tokens += prompt_tokens
        self.hit_tokens += reused


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """How many blocks of 64 tokens there are, and have been.

    Attributes:
        used: taken now, shared ones counted once.
        free: that may still be taken; None without a limit.
        rented: ever taken.
        returned: ever given back.
        shared: that requests and sessions share.
        idle: those of them that none uses now.
        evicted: that were dropped to make room.
    """

    used: int
    free: int | None
    rented: int
    returned: int
    shared: int
    idle: int
    evicted: int

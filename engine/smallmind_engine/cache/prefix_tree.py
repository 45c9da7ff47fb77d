"""The blocks of tokens that sequences have in common, found by the tokens that lead to them.

A block is found by the block before it and its own tokens, which are compared, not only hashed:
two different beginnings are never taken for one another. The last block of a sequence that ended
may have fewer than 64 tokens; it goes when another begins with all of them. Blocks that no
sequence uses are kept until somebody needs the room; the least recently used one goes first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smallmind_engine.cache.kv_cache import BLOCK_TOKENS, KVBlock

_ROOT: Final = 0
_BRANCHES_TRIED: Final = 16
"""Branches that are looked at for a beginning in common within a block."""


@dataclass(slots=True, eq=False)
class PrefixBlock:
    """Up to 64 tokens after a certain beginning, with their keys and values.

    Attributes:
        serial: never used again.
        parent: the block before; None at the beginning of a sequence.
        token_ids: 64 of them, or fewer in a block that no other follows.
        content: keys and values.
        holders: sequences that use it.
        last_use: when it was last taken or let go of, by the tree's clock.
        branches: blocks after it.
    """

    serial: int
    parent: PrefixBlock | None
    token_ids: tuple[int, ...]
    content: KVBlock
    holders: int = 0
    last_use: int = 0
    branches: list[PrefixBlock] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The longest beginning of a prompt that is known.

    Attributes:
        blocks: whole blocks, in order.
        partial: a block whose beginning goes on from there.
        partial_tokens: how many of its tokens.
    """

    blocks: tuple[PrefixBlock, ...] = ()
    partial: PrefixBlock | None = None
    partial_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Length of the beginning."""
        return len(self.blocks) * BLOCK_TOKENS + self.partial_tokens

    @property
    def all_blocks(self) -> tuple[PrefixBlock, ...]:
        """The whole ones, and the one that is used in part."""
        return self.blocks if self.partial is None else (*self.blocks, self.partial)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common beginning.

    >>> common_prefix([1, 2, 3], [1, 2, 4, 5])
    2
    """
    # Slices are compared without the interpreter, if they are of one type.
    if type(first) is not type(second):
        first, second = tuple(first), tuple(second)
    alike, most = 0, min(len(first), len(second))
    while alike < most:
        middle = (alike + most + 1) // 2
        if first[alike:middle] == second[alike:middle]:
            alike = middle
        else:
            most = middle - 1
    return alike


class PrefixTree:
    """All known beginnings. Not thread-safe."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, tuple[int, ...]], PrefixBlock] = {}
        self._first: list[PrefixBlock] = []
        # Least recently used first. A block is let go of after those that follow it, so it stands
        # behind them, and what is evicted has no branches.
        self._idle: dict[PrefixBlock, None] = {}
        self._tokens = 0
        self._serials = itertools.count(_ROOT + 1)
        self._moments = itertools.count(1)

    def tick(self) -> int:
        """The next moment of the tree's clock."""
        return next(self._moments)

    @property
    def blocks(self) -> int:
        """All blocks."""
        return len(self._blocks)

    @property
    def tokens(self) -> int:
        """Tokens in all blocks."""
        return self._tokens

    @property
    def idle_blocks(self) -> int:
        """Blocks that no sequence uses."""
        return len(self._idle)

    @property
    def oldest_use(self) -> int | None:
        """When the block that would be evicted next was let go of; None without one."""
        for block in self._idle:
            return block.last_use
        return None

    def get(self, parent: PrefixBlock | None, token_ids: tuple[int, ...]) -> PrefixBlock | None:
        """The block with these tokens after ``parent``."""
        return self._blocks.get((_serial(parent), token_ids))

    def find(self, token_ids: Sequence[int], most: int) -> PrefixMatch:
        """What is known of the first ``most`` tokens of a prompt."""
        found: list[PrefixBlock] = []
        parent: PrefixBlock | None = None
        begin = 0
        while begin + BLOCK_TOKENS <= most:
            block = self.get(parent, tuple(token_ids[begin : begin + BLOCK_TOKENS]))
            if block is None:
                break
            found.append(block)
            parent = block
            begin += BLOCK_TOKENS
        rest = token_ids[begin : min(begin + BLOCK_TOKENS, most)]
        best, length = None, 0
        for block in self._after(parent)[-_BRANCHES_TRIED:]:
            common = common_prefix(block.token_ids, rest)
            if common > length:
                best, length = block, common
        return PrefixMatch(tuple(found), best, length)

    def add(
        self,
        parent: PrefixBlock | None,
        token_ids: tuple[int, ...],
        content: KVBlock,
    ) -> PrefixBlock:
        """Keep a block, with one holder."""
        serial, now = next(self._serials), self.tick()
        block = PrefixBlock(serial, parent, token_ids, content, 1, now)
        self._blocks[_serial(parent), token_ids] = block
        self._after(parent).append(block)
        self._tokens += len(token_ids)
        return block

    def begins(self, parent: PrefixBlock | None, token_ids: tuple[int, ...]) -> bool:
        """Whether some block after ``parent`` begins with these tokens."""
        return any(b.token_ids[: len(token_ids)] == token_ids for b in self._after(parent))

    def outdone(self, block: PrefixBlock) -> list[PrefixBlock]:
        """Shorter blocks with the same beginning that no sequence uses; ``forget`` may follow."""
        ids = block.token_ids
        return [
            other
            for other in self._after(block.parent)
            if len(other.token_ids) < len(ids)
            and ids[: len(other.token_ids)] == other.token_ids
            and self.may_forget(other)
        ]

    def _after(self, parent: PrefixBlock | None) -> list[PrefixBlock]:
        return self._first if parent is None else parent.branches

    def hold(self, blocks: Sequence[PrefixBlock]) -> None:
        """One more sequence uses these blocks."""
        now = self.tick()
        for block in blocks:
            block.holders += 1
            block.last_use = now
            self._idle.pop(block, None)

    def let_go(self, blocks: Sequence[PrefixBlock]) -> None:
        """A sequence does not use these blocks, given in its order, any more."""
        now = self.tick()
        for block in reversed(blocks):
            block.holders -= 1
            block.last_use = now
            if not block.holders:
                self._idle[block] = None

    def evict(self) -> bool:
        """Forget the least recently used block that no sequence uses; False without one."""
        for block in self._idle:
            self.forget(block)
            return True
        return False

    def may_forget(self, block: PrefixBlock) -> bool:
        """Whether no sequence uses ``block``, and none follows it."""
        return block in self._idle and not block.branches

    def forget(self, block: PrefixBlock) -> None:
        """Drop a block that ``may_forget`` allows."""
        del self._idle[block]
        del self._blocks[_serial(block.parent), block.token_ids]
        self._after(block.parent).remove(block)
        self._tokens -= len(block.token_ids)
        block.content.release()


def _serial(block: PrefixBlock | None) -> int:
    return _ROOT if block is None else block.serial

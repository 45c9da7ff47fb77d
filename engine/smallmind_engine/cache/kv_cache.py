"""Keys and values of one sequence, for all layers, in memory that grows by whole blocks."""

# L layers, K kv-heads, S capacity, D key size, E value size

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from smallmind_engine.telemetry.errors import ContextOverflowError
from smallmind_engine.telemetry.reasons import ReasonCode

BLOCK_TOKENS: Final = 64

_FLOAT_BYTES: Final = 4


def round_up_to_block(tokens: int) -> int:
    """The smallest multiple of the block size that holds ``tokens``."""
    return blocks_for(tokens) * BLOCK_TOKENS


def blocks_for(tokens: int) -> int:
    """How many blocks hold ``tokens``."""
    return -(-tokens // BLOCK_TOKENS)


class KVBlock(Protocol):
    """Keys and values of 64 positions that never change again; several sequences may use it."""

    def release(self) -> None:
        """Give it up; called once, by who got it from ``KVCache.share_block``."""
        ...


class KVCache(Protocol):
    """What the runtime does with the cache of a sequence. Not thread-safe.

    Attributes:
        length: tokens in the cache.
    """

    length: int

    @property
    def shares_memory(self) -> bool:
        """Whether a shared block is the very memory of the caches that use it, not a copy."""
        ...

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        ...

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers."""
        ...

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the whole cache."""
        ...

    @property
    def used_bytes(self) -> int:
        """Bytes of the tokens in it."""
        ...

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens in all, keeping those that are there."""
        ...

    def check_room(self, tokens: int) -> None:
        """Raise ``ContextOverflowError`` when ``tokens`` more do not fit."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all tokens from position ``length`` on."""
        ...

    def share_block(self, index: int) -> KVBlock:
        """A full block of this cache for others; it must not be written to from then on."""
        ...

    def copied_block(self, index: int) -> KVBlock:
        """The block as it is now, in memory of its own; this cache may go on writing to its own."""
        ...

    def use_blocks(self, blocks: Sequence[KVBlock]) -> None:
        """Begin with full blocks of other caches, and count their tokens; this one is empty."""
        ...

    def swap_block(self, index: int, block: KVBlock) -> None:
        """Use ``block``, which holds the same, instead of the block at ``index``."""
        ...

    def copy_block(self, index: int, block: KVBlock) -> None:
        """Fill the block at ``index``, which is this cache's own, with what is in ``block``."""
        ...

    def release(self) -> None:
        """Give the memory back; the cache must not be used again."""
        ...


def refuse_overflow(length: int, capacity: int, tokens: int) -> None:
    """Raise when a cache of ``length`` out of ``capacity`` tokens cannot take ``tokens`` more.

    Raises:
        ContextOverflowError: with the numbers.
    """
    if length + tokens > capacity:
        raise ContextOverflowError(
            ReasonCode.CONTEXT_OVERFLOW,
            f"the KV cache holds {length} of {capacity} tokens; {tokens} more do not fit",
            hint="reserve the room first",
            length=length,
            capacity=capacity,
            wanted=tokens,
        )


def _rows(index: int) -> slice:
    """The positions of a block."""
    return slice(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS)


class CopiedBlock:
    """A block in memory of its own.

    Args:
        keys: shape (L, K, 64, D).
        values: shape (L, K, 64, E).
    """

    __slots__ = ("keys", "values")

    def __init__(self, keys: npt.NDArray[np.float32], values: npt.NDArray[np.float32]) -> None:
        self.keys = keys
        self.values = values

    def release(self) -> None:
        """Let go of the memory."""
        self.keys = self.keys[:, :, :0].copy()
        self.values = self.values[:, :, :0].copy()


class DenseKVCache:
    """One array for the keys and one for the values of a sequence. Not thread-safe.

    Args:
        n_layers: L.
        n_kv_heads: K.
        key_dim: D.
        value_dim: E.
        capacity: tokens to make room for; rounded up to whole blocks.

    Attributes:
        keys: shape (L, K, S, D), float32; the first ``length`` positions are set.
        values: shape (L, K, S, E), float32.
        length: tokens in the cache.
    """

    __slots__ = ("keys", "length", "values")

    def __init__(
        self, n_layers: int, n_kv_heads: int, key_dim: int, value_dim: int, capacity: int
    ) -> None:
        rows = round_up_to_block(capacity)
        self.keys: npt.NDArray[np.float32] = np.empty(
            (n_layers, n_kv_heads, rows, key_dim), np.float32
        )
        self.values: npt.NDArray[np.float32] = np.empty(
            (n_layers, n_kv_heads, rows, value_dim), np.float32
        )
        self.length = 0

    @property
    def shares_memory(self) -> bool:
        """Blocks are copied in and out."""
        return False

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return int(self.keys.shape[2])

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers."""
        layers, heads, _, key_dim = self.keys.shape
        return int(layers * heads * (key_dim + self.values.shape[3]) * _FLOAT_BYTES)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the whole cache."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the tokens in it."""
        return self.length * self.bytes_per_token

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens in all, keeping those that are there."""
        if capacity <= self.capacity:
            return
        rows = round_up_to_block(capacity)
        self.keys = self._grown(self.keys, rows)
        self.values = self._grown(self.values, rows)

    def _grown(self, old: npt.NDArray[np.float32], rows: int) -> npt.NDArray[np.float32]:
        layers, heads, _, dim = old.shape
        new = np.empty((layers, heads, rows, dim), np.float32)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new

    def check_room(self, tokens: int) -> None:
        """Raise when ``tokens`` more do not fit.

        Raises:
            ContextOverflowError: with the numbers.
        """
        refuse_overflow(self.length, self.capacity, tokens)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position ``length`` on."""
        self.length = min(self.length, length)

    def share_block(self, index: int) -> CopiedBlock:
        """A copy of a full block."""
        rows = _rows(index)
        return CopiedBlock(self.keys[:, :, rows].copy(), self.values[:, :, rows].copy())

    def copied_block(self, index: int) -> CopiedBlock:
        """The same."""
        return self.share_block(index)

    def use_blocks(self, blocks: Sequence[KVBlock]) -> None:
        """Copy full blocks into an empty cache."""
        self.reserve(len(blocks) * BLOCK_TOKENS)
        for index, block in enumerate(blocks):
            self.copy_block(index, block)
        self.length = len(blocks) * BLOCK_TOKENS

    def swap_block(self, index: int, block: KVBlock) -> None:
        """Nothing to do: what is here is a copy of its own."""

    def copy_block(self, index: int, block: KVBlock) -> None:
        """Fill the block at ``index`` with what is in ``block``."""
        if not isinstance(block, CopiedBlock):
            raise TypeError(block)
        rows = _rows(index)
        self.keys[:, :, rows] = block.keys
        self.values[:, :, rows] = block.values

    def release(self) -> None:
        """Give the memory back; the cache is empty and without room then."""
        self.keys = self.keys[:, :, :0].copy()
        self.values = self.values[:, :, :0].copy()
        self.length = 0

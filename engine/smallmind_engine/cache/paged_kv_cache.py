"""Keys and values of sequences in pages of 64 positions that hold all layers.

A page belongs to one sequence at a time and goes back to its pool when the sequence ends, so that
memory does not grow with the number of requests. What is inside a page is the backend's matter.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.cache.kv_cache import BLOCK_TOKENS, refuse_overflow, round_up_to_block

_ALIGNMENT: Final = 64

Page = npt.NDArray[np.uint8]


class PagePool:
    """Lends pages, last returned first. Thread-safe.

    Args:
        page_bytes: size of a page.
        most_idle: so many idle pages are kept for later; others are freed.
    """

    def __init__(self, page_bytes: int, most_idle: int = 64) -> None:
        self.page_bytes: Final = page_bytes
        self._most_idle = most_idle
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()
        self._idle: list[Page] = []
        self._lent = 0
        self._high_water = 0

    def rent(self) -> Page:
        """A page of zeros, or one with what another sequence left in it; aligned to 64 bytes."""
        with self._lock:
            self._lent += 1
            self._high_water = max(self._high_water, self._lent)
            if self._idle:
                return self._idle.pop()
        memory = np.zeros(self.page_bytes + _ALIGNMENT, np.uint8)
        begin = -memory.ctypes.data % _ALIGNMENT
        return memory[begin : begin + self.page_bytes]

    def give_back(self, page: Page) -> None:
        """End the use of a page."""
        with self._lock:
            self._lent -= 1
            if len(self._idle) < self._most_idle:
                self._idle.append(page)

    @property
    def lent(self) -> int:
        """Pages in use."""
        with self._lock:
            return self._lent

    @property
    def high_water(self) -> int:
        """Most pages ever in use at once."""
        with self._lock:
            return self._high_water

    @property
    def nbytes(self) -> int:
        """Memory of all pages, lent or idle."""
        with self._lock:
            return (self._lent + len(self._idle)) * self.page_bytes

    def drop_idle(self) -> None:
        """Free the pages that nobody uses."""
        with self._lock:
            self._idle.clear()


class PagedKVCache:
    """The pages of one sequence. Not thread-safe.

    Args:
        pool: lends the pages.
        capacity: tokens to make room for; rounded up to whole pages.

    Attributes:
        length: tokens in the cache.
        addresses: int64, where each page begins; as many as there are pages.
    """

    __slots__ = ("_pages", "_pool", "addresses", "length")

    def __init__(self, pool: PagePool, capacity: int) -> None:
        self._pool = pool
        self._pages: list[Page] = []
        self.addresses = np.empty(0, np.int64)
        self.length = 0
        self.reserve(capacity)

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return len(self._pages) * BLOCK_TOKENS

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers."""
        return self._pool.page_bytes // BLOCK_TOKENS

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the whole cache."""
        return len(self._pages) * self._pool.page_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the tokens in it."""
        return self.length * self.bytes_per_token

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens in all, keeping those that are there."""
        wanted = round_up_to_block(capacity) // BLOCK_TOKENS
        if wanted <= len(self._pages):
            return
        self._pages.extend(self._pool.rent() for _ in range(wanted - len(self._pages)))
        self.addresses = np.array([page.ctypes.data for page in self._pages], np.int64)

    def check_room(self, tokens: int) -> None:
        """Raise when ``tokens`` more do not fit.

        Raises:
            ContextOverflowError: with the numbers.
        """
        refuse_overflow(self.length, self.capacity, tokens)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position ``length`` on."""
        self.length = min(self.length, length)

    def release(self) -> None:
        """Give all pages back; the cache is empty and without room then."""
        pages, self._pages = self._pages, []
        self.addresses = np.empty(0, np.int64)
        self.length = 0
        for page in pages:
            self._pool.give_back(page)

    def __del__(self) -> None:
        self.release()

"""Keys and values of sequences in pages of 64 positions that hold all layers.

A page goes back to its pool when the last one that uses it ends, so that memory does not grow with
the number of requests. Sequences with the same beginning use the same pages; a page with several
users is never written to. What is inside a page is the backend's matter.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

from smallmind_engine.cache.kv_cache import (
    BLOCK_TOKENS,
    KVBlock,
    refuse_overflow,
    round_up_to_block,
)
from smallmind_engine.cache.page_memory import PageMemory, PagePlace
from smallmind_engine.telemetry.fork import renew_in_child


class Page:
    """Memory of 64 positions, and how many use it.

    Args:
        place: where the memory is from.

    Attributes:
        memory: aligned to 64 bytes.
        address: where it begins.
        users: sequences and shared blocks that use it; it goes back to its pool with the last.
    """

    __slots__ = ("address", "memory", "place", "users")

    def __init__(self, place: PagePlace) -> None:
        self.place = place
        self.memory = place.memory
        self.address = int(self.memory.ctypes.data)
        self.users = 0


class PagePool:
    """Lends pages, last returned first. Thread-safe.

    Args:
        page_bytes: size of a page.
        most_idle: so many idle pages are kept for later; others are freed.
    """

    def __init__(self, page_bytes: int, most_idle: int = 64) -> None:
        self.page_bytes: Final = page_bytes
        self._most_idle = most_idle
        self._idle: list[Page] = []
        self._memory = PageMemory(page_bytes)
        self._lent = 0
        self._high_water = 0
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()

    def rent(self) -> Page:
        """A page with one user; there may be anything in it."""
        with self._lock:
            page = self._idle.pop() if self._idle else Page(self._memory.take())
            page.users = 1
            self._lent += 1
            self._high_water = max(self._high_water, self._lent)
        return page

    def join(self, page: Page) -> Page:
        """One more uses ``page``."""
        with self._lock:
            page.users += 1
        return page

    def give_back(self, page: Page) -> None:
        """End one use of a page."""
        with self._lock:
            page.users -= 1
            if page.users:
                return
            self._lent -= 1
            if len(self._idle) < self._most_idle:
                self._idle.append(page)
            else:
                self._memory.give_back(page.place)

    @property
    def lent(self) -> int:
        """Pages in use, each counted once."""
        with self._lock:
            return self._lent

    @property
    def high_water(self) -> int:
        """Most pages ever in use at once."""
        with self._lock:
            return self._high_water

    @property
    def nbytes(self) -> int:
        """Memory of all pages, lent or idle; the system rounds it up to a huge page or two."""
        with self._lock:
            return (self._lent + len(self._idle)) * self.page_bytes

    def drop_idle(self) -> None:
        """Free the pages that nobody uses."""
        with self._lock:
            while self._idle:
                self._memory.give_back(self._idle.pop().place)
            self._memory.forget()


class SharedPage:
    """A page as a block that no sequence writes to any more."""

    __slots__ = ("_pool", "page")

    def __init__(self, pool: PagePool, page: Page) -> None:
        self._pool = pool
        self.page = pool.join(page)

    def release(self) -> None:
        """End this use of the page."""
        self._pool.give_back(self.page)


class PagedKVCache:
    """The pages of one sequence. Not thread-safe.

    Args:
        pool: lends the pages.
        capacity: tokens to make room for; rounded up to whole pages.

    Attributes:
        length: tokens in the cache.
        addresses: int64, where each page begins; as many as there are pages.
        table_address: where ``addresses`` begins.
    """

    __slots__ = ("_pages", "_pool", "addresses", "length", "table_address")

    def __init__(self, pool: PagePool, capacity: int) -> None:
        self._pool = pool
        self._pages: list[Page] = []
        self.length = 0
        self._note_addresses()
        self.reserve(capacity)

    @property
    def shares_memory(self) -> bool:
        """Sequences use the same pages."""
        return True

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
        self._note_addresses()

    def _note_addresses(self) -> None:
        self.addresses = np.array([page.address for page in self._pages], np.int64)
        self.table_address = int(self.addresses.ctypes.data)

    def share_block(self, index: int) -> SharedPage:
        """The page at ``index``, for others to use too."""
        return SharedPage(self._pool, self._pages[index])

    def copied_block(self, index: int) -> SharedPage:
        """A page of its own with what is in the page at ``index``."""
        page = self._pool.rent()
        page.memory[:] = self._pages[index].memory
        block = SharedPage(self._pool, page)
        self._pool.give_back(page)
        return block

    def use_blocks(self, blocks: Sequence[KVBlock]) -> None:
        """Begin with pages of other sequences."""
        self._pages = [self._pool.join(_page_of(block)) for block in blocks]
        self.length = len(blocks) * BLOCK_TOKENS
        self._note_addresses()

    def swap_block(self, index: int, block: KVBlock) -> None:
        """Use the page of ``block``, and give back the one that was there."""
        page = self._pool.join(_page_of(block))
        self._pages[index], own = page, self._pages[index]
        self.addresses[index] = page.address
        self._pool.give_back(own)

    def copy_block(self, index: int, block: KVBlock) -> None:
        """Fill the page at ``index`` with what is in the page of ``block``."""
        self._pages[index].memory[:] = _page_of(block).memory

    def check_room(self, tokens: int) -> None:
        """Raise when ``tokens`` more do not fit.

        Raises:
            ContextOverflowError: with the numbers.
        """
        if self.length + tokens > len(self._pages) * BLOCK_TOKENS:  # asked for each token
            refuse_overflow(self.length, self.capacity, tokens)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position ``length`` on."""
        self.length = min(self.length, length)

    def release(self) -> None:
        """Give all pages back; the cache is empty and without room then."""
        pages, self._pages = self._pages, []
        self.addresses = np.empty(0, np.int64)
        self.table_address = 0  # also when the interpreter ends, and nothing can be imported
        self.length = 0
        for page in pages:
            self._pool.give_back(page)

    def __del__(self) -> None:
        self.release()


def _page_of(block: KVBlock) -> Page:
    if not isinstance(block, SharedPage):
        raise TypeError(block)
    return block.page

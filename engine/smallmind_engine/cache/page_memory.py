"""Where the memory of a cache's pages is from.

Attention walks through all pages of all sequences at every token. In huge pages of the system that
misses less: many pages lie in one piece, of which those that are free are given back.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from smallmind_engine.memory.huge_pages import CAN_GIVE_BACK, HugeMemory

_ALIGNMENT: Final = 64

_PIECE_BYTES: Final = 32 << 20
_LEAST_IN_PIECES: Final = 256 << 10
"""Pages of less have memory of their own: a huge page would be more than all of them."""


class PagePlace(NamedTuple):
    """Memory of one page.

    Attributes:
        memory: uint8, aligned to 64 bytes.
        piece: that it is part of; None for memory of its own.
        begin: where it begins in the piece.
    """

    memory: npt.NDArray[np.uint8]
    piece: HugeMemory | None
    begin: int


class PageMemory:
    """Hands out memory of pages, in which there may be anything. Not thread-safe: its pool locks.

    Args:
        page_bytes: of a page.
    """

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._in_pieces = CAN_GIVE_BACK and page_bytes >= _LEAST_IN_PIECES
        self._free: list[PagePlace] = []

    def take(self) -> PagePlace:
        """Memory of a page that is nobody's.

        Raises:
            MemoryError: there is none.
        """
        if self._in_pieces and not self._free:
            with suppress(MemoryError):  # a single page may still fit
                self._add_piece()
        if self._free:
            return self._free.pop()
        memory: npt.NDArray[np.uint8] = np.zeros(self._page_bytes + _ALIGNMENT, np.uint8)
        begin = -memory.ctypes.data % _ALIGNMENT
        return PagePlace(memory[begin : begin + self._page_bytes], None, 0)

    def _add_piece(self) -> None:
        # Whole pages of the system, so that each can be given back.
        step = -(-self._page_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        count = max(1, _PIECE_BYTES // step)
        piece = HugeMemory(count * step)
        for begin in range((count - 1) * step, -1, -step):  # the first is taken first
            memory = piece.array[begin : begin + self._page_bytes]
            self._free.append(PagePlace(memory, piece, begin))

    def give_back(self, place: PagePlace) -> None:
        """Take memory back whose page is used no more."""
        if place.piece is None:
            return
        place.piece.give_back(place.begin, self._page_bytes)
        self._free.append(place)

    def forget(self) -> None:
        """Let go of the pieces: each goes with the last of its pages that somebody has."""
        self._free.clear()

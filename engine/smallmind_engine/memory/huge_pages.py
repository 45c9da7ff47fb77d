"""Memory of huge pages, where the platform has them: what is read at every token misses less."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

HUGE_PAGE: Final = 2 << 20
"""Bytes of a huge page of x86 and of most ARM systems."""

_ADVICE: Final[int | None] = getattr(mmap, "MADV_HUGEPAGE", None)
_NOT_NEEDED: Final[int | None] = getattr(mmap, "MADV_DONTNEED", None)

CAN_GIVE_BACK: Final = _ADVICE is not None and _NOT_NEEDED is not None
"""Whether the system can be asked for huge pages, and to take parts back; it may decline."""


class HugeMemory:
    """Zeroed memory that begins at a huge page, and asks for such pages where there are any.

    Args:
        n_bytes: of ``array``.

    Attributes:
        array: uint8 (n_bytes,); keeps the memory alive.

    Raises:
        MemoryError: there is not as much.
    """

    __slots__ = ("_begin", "_memory", "array")

    def __init__(self, n_bytes: int) -> None:
        try:
            self._memory = _mapped(n_bytes + HUGE_PAGE)
        except OSError as error:
            raise MemoryError(f"{n_bytes} bytes") from error
        if _ADVICE is not None:
            with suppress(OSError):  # a kernel that is built without them
                self._memory.madvise(_ADVICE)
        whole = np.frombuffer(self._memory, np.uint8)
        self._begin = -whole.ctypes.data % HUGE_PAGE
        self.array: Final[npt.NDArray[np.uint8]] = whole[self._begin : self._begin + n_bytes]

    def give_back(self, begin: int, size: int) -> None:
        """Give a part back to the system until it is used again; what was in it may be lost.

        Args:
            begin: bytes from the array's begin, a multiple of the system's page size.
            size: bytes.
        """
        if _NOT_NEEDED is not None:
            with suppress(OSError):  # memory that the host has locked stays as it is
                self._memory.madvise(_NOT_NEEDED, self._begin + begin, size)


def _mapped(n_bytes: int) -> mmap.mmap:
    # Private memory gets huge pages where shared memory, Python's default, mostly does not.
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, n_bytes)

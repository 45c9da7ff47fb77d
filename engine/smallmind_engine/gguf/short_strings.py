"""Many short strings at once, as vocabularies have them: all that is usual, and nothing else.

A string follows its length, eight bytes with the lowest first. Of a short one seven of these are
zero, which no text is: so beginnings are seen without going from string to string, which takes a
Python loop a microsecond for each.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

_LENGTH_BYTES: Final = 8
_LIKELY_BYTES: Final = 32
_MOST_AT_ONCE: Final = 1 << 15
"""Bytes of the file that are looked at in one go: few enough that what is made of them comes from
memory that was used before. Larger arrays are the system's again each time, page by page."""


def short_strings(buffer: bytes | mmap.mmap, offset: int, count: int) -> tuple[list[str], int]:
    """The first of ``count`` strings that begin at ``offset``.

    Args:
        buffer: with lengths in little-endian order.
        offset: of the first length.
        count: how many there are.

    Returns:
        As many as were found to be short, not empty, without zeros and in UTF-8, and the offset
        behind them. What follows may be anything.
    """
    size = min(count * (_LENGTH_BYTES + _LIKELY_BYTES), _MOST_AT_ONCE)
    window = buffer[offset : offset + size]
    data = np.frombuffer(window, np.uint8)
    # A byte with seven zeros or more behind it is a length, if the one before leads to it.
    begins = np.flatnonzero((data[: -_LENGTH_BYTES + 1] != 0) & _zeros_behind(data))
    if not len(begins) or begins[0]:
        return [], offset
    ends = begins + _LENGTH_BYTES + data[begins]
    whole = np.append(ends[:-1] == begins[1:], ends[-1] <= len(data))
    found = min(count, len(whole) if whole.all() else int(np.argmin(whole)))
    if not found:
        return [], offset
    end = int(ends[found - 1])
    # One zero in place of each length: a single character is found faster than several.
    text = data[:end].copy()
    text[begins[:found]] = 0
    kept = np.ones(end, np.bool_)
    for place in range(1, _LENGTH_BYTES):
        kept[begins[:found] + place] = False
    text = text[kept]
    if np.count_nonzero(text) != len(text) - found:
        return [], offset
    try:
        strings = text.tobytes().decode("utf-8").split("\0")
    except UnicodeDecodeError:
        return [], offset
    del strings[0]  # what is before the first
    return strings, offset + end


def _zeros_behind(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where seven zeros follow; seven places shorter than ``data``."""
    one = data[1:] == 0
    two = one[:-1] & one[1:]
    four = two[:-2] & two[2:]
    seven: npt.NDArray[np.bool_] = four[:-3] & four[3:]
    return seven

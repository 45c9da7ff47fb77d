"""What a tokenizer takes in memory, as far as the lists that it is made of tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

_PREFIX: Final = "tokenizer.ggml."
_POINTER_BYTES: Final = 8
_STRING_BYTES: Final = 88
"""A short string, of which most have a character beyond Latin-1: CPython's object, rounded up."""

_NUMBER_BYTES: Final = 32
_TYPE_BYTES: Final = 4
_LEAST_SLOTS: Final = 8
_ENTRY_BYTES: Final = 24  # of a dictionary: hash, key and value
_INDEX_BYTES: Final = 4


def tokenizer_bytes(metadata: Mapping[str, object]) -> int:
    """Memory of a file's metadata, which stays, and of the tables that a tokenizer makes of it.

    What is remembered of words that were met is not in it: some 10 MB at most.
    """
    tokens, merges = _entries(metadata, "tokens"), _entries(metadata, "merges")
    scores = _entries(metadata, "scores")
    lists = sum(_value_bytes(value) for value in metadata.values())
    # The entries again, their types, and the bytes of those that were met.
    by_token = 2 * _POINTER_BYTES + _TYPE_BYTES
    tables = tokens * by_token + _index_bytes(tokens) + _index_bytes(merges)
    return lists + tables + scores * (_POINTER_BYTES + _NUMBER_BYTES)


def _entries(metadata: Mapping[str, object], key: str) -> int:
    value = metadata.get(_PREFIX + key)
    return len(value) if isinstance(value, (list, np.ndarray)) else 0


def _value_bytes(value: object) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, list):
        return len(value) * (_POINTER_BYTES + _STRING_BYTES)
    return _STRING_BYTES


def _index_bytes(entries: int) -> int:
    """A dictionary from strings that are there anyway to numbers of their own."""
    slots = _LEAST_SLOTS
    while slots * 2 // 3 < entries:
        slots *= 2
    return slots * _INDEX_BYTES + slots * 2 // 3 * _ENTRY_BYTES + entries * _NUMBER_BYTES

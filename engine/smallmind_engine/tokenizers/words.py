"""Words that were tokenised before, remembered: most text repeats a few thousand words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from smallmind_engine.control import WorkLimit

_MAX_WORDS: Final = 32_768
_MAX_WORD_CHARS: Final = 64
_CHECK_EVERY: Final = 256
"""Words between two looks at the limit; each costs under 50 microseconds, or looks itself."""

WordEncoder = Callable[[str, WorkLimit], list[int]]


class WordCache:
    """Ids of words, computed once. At most some 10 MB; emptied when full.

    Safe in many threads: an entry that two threads compute at once is the same in both.

    Args:
        encode_word: ids of one word.
    """

    __slots__ = ("_encode_word", "_known")

    def __init__(self, encode_word: WordEncoder) -> None:
        self._encode_word = encode_word
        self._known: dict[str, list[int]] = {}

    def extend(self, ids: list[int], words: Iterable[str], limit: WorkLimit) -> None:
        """Append the ids of ``words`` to ``ids``. Hot path: ``bench_tokenizers.py`` guards it."""
        known = self._known
        iterator = iter(words)
        while batch := list(islice(iterator, _CHECK_EVERY)):
            limit.check("tokenising")
            for word in batch:
                found = known.get(word)
                if found is None:
                    found = self._encode_word(word, limit)
                    if len(word) <= _MAX_WORD_CHARS:
                        if len(known) >= _MAX_WORDS:
                            known.clear()
                        known[word] = found
                ids += found

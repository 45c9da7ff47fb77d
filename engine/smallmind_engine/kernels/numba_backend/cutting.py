"""Cutting what a caller asks for into steps, and putting the answers together again."""

# T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind_engine.cache import KVCache, PagedKVCache
from smallmind_engine.kernels.backend import Chunk, LogitsWanted, Output, best_of
from smallmind_engine.kernels.spec import FloatArray, IntArray

MOST_TOKENS: Final = 512
"""Tokens of a step at most."""

# Reading a member of an enum takes as long as calling a function; these are read for each token.
_NONE: Final = LogitsWanted.NONE
_LAST: Final = LogitsWanted.LAST
_BEST: Final = LogitsWanted.BEST


@dataclass(slots=True)
class StepPart:
    """New tokens of a sequence within one step.

    Attributes:
        ids: T of them.
        cache: of the sequence.
        length: tokens before these.
        wanted: how many of the last tokens' logits (or hidden states) are wanted.
    """

    ids: Sequence[int] | IntArray
    cache: PagedKVCache
    length: int
    wanted: int


def cut_into_steps(chunks: Sequence[Chunk]) -> Iterator[list[tuple[int, StepPart]]]:
    """Cut the work into steps of bounded size; parts come with the index of their chunk."""
    step: list[tuple[int, StepPart]] = []
    room = MOST_TOKENS
    for index, chunk in enumerate(chunks):
        cache = _paged(chunk.cache)
        ids = chunk.token_ids
        count = len(ids)
        begin = 0
        while begin < count:
            if room == 0:
                yield step
                step, room = [], MOST_TOKENS
            end = min(begin + room, count)
            wanted = _rows_wanted(chunk.logits, end - begin, is_last=end == count)
            step.append((index, StepPart(ids[begin:end], cache, cache.length + begin, wanted)))
            room -= end - begin
            begin = end
    if step:
        yield step


def _rows_wanted(logits: LogitsWanted, count: int, *, is_last: bool) -> int:
    if logits is _NONE:
        return 0
    return int(is_last) if logits is _LAST or logits is _BEST else count


def whole_parts(chunks: Sequence[Chunk]) -> list[StepPart]:
    """The parts of a step that holds all chunks whole, of which at most the best is wanted."""
    return [
        StepPart(ids, _paged(cache), cache.length, int(logits is _BEST))
        for ids, cache, logits in chunks
    ]


def steps_by_output(
    chunks: Sequence[Chunk],
) -> Iterator[tuple[bool, list[tuple[int, StepPart]]]]:
    """The same, with whether hidden states are wanted: a step makes those or logits."""
    for hidden in (False, True):
        places = [i for i, c in enumerate(chunks) if (c.logits is LogitsWanted.HIDDEN) == hidden]
        for step in cut_into_steps([chunks[place] for place in places]):
            yield hidden, [(places[index], part) for index, part in step]


def _paged(cache: KVCache) -> PagedKVCache:
    if not isinstance(cache, PagedKVCache):
        raise TypeError(cache)
    return cache


def answer_of(chunk: Chunk, found: list[FloatArray]) -> Output:
    """What a chunk gets, made of its rows of logits (or hidden states) from all steps."""
    if chunk.logits is LogitsWanted.NONE:
        return None
    if chunk.logits is LogitsWanted.BEST:
        return best_of(found[-1][0])
    if chunk.logits is LogitsWanted.LAST:
        last: FloatArray = found[-1][0]
        return last
    return found[0] if len(found) == 1 else np.concatenate(found)

"""Whether and how to look for the best logits only, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from smallmind_engine.kernels.backend import BestToken, Chunk, LogitsWanted, Output
from smallmind_engine.kernels.numba_backend.buffers import SearchBuffers
from smallmind_engine.kernels.numba_backend.cutting import MOST_TOKENS
from smallmind_engine.kernels.numba_backend.records import (
    LINE_FLOATS,
    LINE_WORDS,
    MOST_BEST,
    BestOnly,
)
from smallmind_engine.kernels.spec import TransformerSpec

_MOST_DOUBTS: Final = 8
_SEARCHES_A_DOUBT: Final = 1000
"""So often, and once in so many, may a search fail before none is tried any more."""

_WORTHWHILE: Final = 0.3
_WORTHWHILE_OF_A_TOKEN: Final = 1 / 32
"""How often a search may compute groups of the output matrix in full and still be worth it: so
often the number of all groups, and so much more for each token. By measurement."""

_PAUSED_STEPS: Final = 2
"""Steps without a search after one that was not worth it: undecided logits often come in a row."""

# Reading a member of an enum takes as long as calling a function; these are read for each token.
_NONE: Final = LogitsWanted.NONE
_BEST: Final = LogitsWanted.BEST
_ALL_LOGITS: Final = BestOnly.NO
_BY_BOUNDS: Final = BestOnly.BY_BOUNDS
_OF_ALL: Final = BestOnly.OF_ALL


class BestSearch:
    """The searches of one runner. Belongs to one thread at a time.

    Args:
        spec: the model.
        threads: of the team.
        has_bounds: whether outputs can be bounded, by the layout of the output matrix.

    Attributes:
        buffers: where a step leaves what it found.
        searches: how many by bounds there were.
        doubts: how many of them were dismissed.
    """

    def __init__(self, spec: TransformerSpec, threads: int, *, has_bounds: bool) -> None:
        self.buffers: Final = SearchBuffers(spec, threads)
        self.searches = 0
        self.doubts = 0
        self._threads = threads
        self._cap = spec.logit_softcap
        self._has_bounds = has_bounds
        self._pause = 0
        self._wanted = 0

    def way(self, chunks: Sequence[Chunk]) -> BestOnly:
        """How to answer what is wanted, by what is likely the fastest. Hot path."""
        n_tokens = wanted = 0
        for chunk in chunks:
            n_tokens += len(chunk.token_ids)
            if chunk.logits is _BEST:
                wanted += 1
            elif chunk.logits is not _NONE:
                return _ALL_LOGITS
        self._wanted = wanted
        if not 0 < wanted <= MOST_BEST or n_tokens > MOST_TOKENS:
            return _ALL_LOGITS
        if not self._has_bounds:
            return _OF_ALL
        if self.doubts > _MOST_DOUBTS + self.searches // _SEARCHES_A_DOUBT:
            return _OF_ALL
        if self._pause > 0:
            self._pause -= 1
            return _OF_ALL
        return _BY_BOUNDS

    def answers(self, chunks: Sequence[Chunk], way: BestOnly) -> list[Output] | None:
        """What the last step found for each chunk; None when that is not to be trusted."""
        doubts = self.buffers.doubt_words
        if way is _BY_BOUNDS:
            self.searches += self._wanted
            worthwhile = _WORTHWHILE + _WORTHWHILE_OF_A_TOKEN * self._wanted
            if sum(doubts[1::LINE_WORDS]) > self.buffers.groups * worthwhile:
                self._pause = _PAUSED_STEPS
        if any(doubts[::LINE_WORDS]):
            self.doubts += way is _BY_BOUNDS
            return None
        answers: list[Output] = []
        row = 0
        for chunk in chunks:
            if chunk.logits is _NONE:
                answers.append(None)
                continue
            best = self._best(row)
            row += 1
            if best is None:
                return None
            answers.append(best)
        return answers

    def _best(self, row: int) -> BestToken | None:
        """The best that any thread found for a row of logits; None when it is not finite."""
        logits, ids = self.buffers.logit_numbers, self.buffers.id_words
        best_id, best = -1, 0.0
        for thread in range(self._threads):
            place = thread * MOST_BEST + row
            token_id = ids[place * LINE_WORDS]
            if token_id < 0:
                continue
            logit = logits[place * LINE_FLOATS]
            if best_id < 0 or logit > best or (logit == best and token_id < best_id):
                best_id, best = token_id, logit
        if best_id < 0 or not math.isfinite(best):
            return None
        if self._cap is not None:
            best = self._cap * math.tanh(best / self._cap)
        return BestToken(best_id, best)

"""Whether and how to look for the best logits only, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from smallmind_engine.kernels.backend import BestToken, Chunk, LogitsWanted, Output
from smallmind_engine.kernels.numba_backend.buffers import SearchBuffers
from smallmind_engine.kernels.numba_backend.cutting import MOST_TOKENS
from smallmind_engine.kernels.numba_backend.records import MOST_BEST, BestOnly
from smallmind_engine.kernels.spec import TransformerSpec

_MOST_DOUBTS: Final = 8
_SEARCHES_A_DOUBT: Final = 1000
"""So often, and once in so many, may a search fail before none is tried any more."""

_WORTHWHILE: Final = 0.3
_WORTHWHILE_OF_A_TOKEN: Final = 1 / 12
"""How much of the output matrix a search may compute in full for one token and still be worth it:
so often the whole, and so often more for each token. By measurement."""

_PAUSED_STEPS: Final = 4
"""Steps without a search after one that was not worth it."""


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
        self._cap = spec.logit_softcap
        self._has_bounds = has_bounds
        self._pause = 0

    def way(self, chunks: Sequence[Chunk]) -> BestOnly:
        """How to answer what is wanted, by what is likely the fastest."""
        n_tokens = sum(len(chunk.token_ids) for chunk in chunks)
        wanted = [chunk.logits for chunk in chunks if chunk.logits is not LogitsWanted.NONE]
        if set(wanted) != {LogitsWanted.BEST} or len(wanted) > MOST_BEST or n_tokens > MOST_TOKENS:
            return BestOnly.NO
        if not self._has_bounds:
            return BestOnly.OF_ALL
        if self.doubts > _MOST_DOUBTS + self.searches // _SEARCHES_A_DOUBT:
            return BestOnly.OF_ALL
        if self._pause > 0:
            self._pause -= 1
            return BestOnly.OF_ALL
        return BestOnly.BY_BOUNDS

    def answers(self, chunks: Sequence[Chunk], way: BestOnly) -> list[Output] | None:
        """What the last step found for each chunk; None when that is not to be trusted."""
        found = self.buffers
        if way is BestOnly.BY_BOUNDS:
            wanted = sum(chunk.logits is not LogitsWanted.NONE for chunk in chunks)
            self.searches += wanted
            worthwhile = _WORTHWHILE + _WORTHWHILE_OF_A_TOKEN * wanted
            if found.doubts[:, 1].sum() > found.bounds.shape[1] * worthwhile:
                self._pause = _PAUSED_STEPS  # undecided logits mostly come in a row
        if found.doubts[:, 0].any():
            self.doubts += way is BestOnly.BY_BOUNDS
            return None
        answers: list[Output] = []
        row = 0
        for chunk in chunks:
            if chunk.logits is LogitsWanted.NONE:
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
        logits, ids = self.buffers.best_logits[:, row, 0], self.buffers.best_ids[:, row, 0]
        found = [
            (float(logit), -int(token_id))
            for logit, token_id in zip(logits, ids, strict=True)
            if token_id >= 0
        ]
        if not found:
            return None
        logit, negative_id = max(found)
        if self._cap is not None:
            logit = self._cap * math.tanh(logit / self._cap)
        return BestToken(-negative_id, logit) if math.isfinite(logit) else None

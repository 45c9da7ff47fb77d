"""Finds the layer whose values are first not finite."""

from __future__ import annotations

from typing import Protocol

from smallmind_engine.cache import PagedKVCache
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.backend import Chunk, LogitsWanted
from smallmind_engine.kernels.finite_watch import FiniteWatch
from smallmind_engine.kernels.numba_backend.cutting import StepPart, cut_into_steps
from smallmind_engine.kernels.spec import FloatArray, IntArray, WeightSource
from smallmind_engine.kernels.tensors import EMBEDDING


class RunsLayers(Protocol):
    """Runs a step, and shows its activations between the layers."""

    def __call__(
        self, parts: list[StepPart], limit: WorkLimit, *, watch: FiniteWatch
    ) -> FloatArray:
        """The logits."""
        ...


def find_non_finite(
    token_ids: IntArray, cache: PagedKVCache, source: WeightSource, run: RunsLayers
) -> str:
    """See ``ModelRunner.find_non_finite``.

    Args:
        token_ids: shape (T,).
        cache: empty, with room for them.
        source: has the embeddings.
        run: the runner's.
    """
    watch = FiniteWatch()
    for token in set(token_ids.tolist()):
        watch.see("embedding", source.floats(EMBEDDING, rows=slice(token, token + 1)))
    for step in cut_into_steps([Chunk(token_ids, cache, LogitsWanted.ALL)]):
        logits = run([part for _, part in step], NO_LIMIT, watch=watch)
        watch.see("output", logits)
    return watch.first

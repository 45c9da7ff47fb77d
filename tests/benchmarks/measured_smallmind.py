"""smallmind as a measured engine: the model runner, without sessions or sampling."""

from __future__ import annotations

import time

import numpy as np
from compare_cases import Case, prompt_ids
from greedy_step import greedy_step
from measured_engine import LoadRequest, Measured

import smallmind
from smallmind_engine.cache import KVCache
from smallmind_engine.kernels import Chunk, LogitsWanted


class MeasuredSmallmind:
    """Has the KV caches of one case at a time, as an engine has those of its requests."""

    def __init__(self, request: LoadRequest) -> None:
        self._engine = smallmind.load(
            request.path,
            exporters=(),
            backend=request.backend,
            threads=request.threads,
            keep_packed_weights=request.keep_packed,
        )
        self._runner = self._engine.model.runner
        self._vocab_size = self._engine.model.spec.vocab_size
        self._capacity = request.capacity

    def about(self) -> dict[str, object]:
        return {
            "version": smallmind.__version__,
            "backend": self._runner.backend,
            "weights_mode": str(self._runner.weights_mode),
            "weight_bytes": self._runner.weight_bytes,
            "prefill_chunk": self._runner.prefill_chunk,
            "vocab_size": self._vocab_size,
        }

    def first_token(self) -> None:
        self._read(np.zeros(1, np.int64), self._runner.new_cache(1))

    def measure(self, case: Case) -> Measured:
        prefill_s = None
        if case.prefill_is_measured:
            prompt = prompt_ids(0, case.context, self._vocab_size)
            caches = [self._runner.new_cache(self._capacity)]
            begin = time.perf_counter()
            tokens = [self._read(prompt, caches[0])]
            prefill_s = time.perf_counter() - begin
        else:
            caches = [self._runner.new_cache(case.capacity) for _ in range(case.sequences)]
            tokens = [
                self._read(prompt_ids(number, case.context, self._vocab_size), cache)
                for number, cache in enumerate(caches)
            ]
        decoded = [tokens[0]]
        begin = time.perf_counter()
        for _ in range(case.steps):
            tokens = greedy_step(
                self._runner,
                [
                    Chunk(np.array([token]), cache, LogitsWanted.BEST)
                    for token, cache in zip(tokens, caches, strict=True)
                ],
            )
            decoded.append(tokens[0])
        decode_s = time.perf_counter() - begin if case.steps else None
        return Measured(prefill_s=prefill_s, decode_s=decode_s, tokens=decoded)

    def _read(self, prompt: np.ndarray, cache: KVCache) -> int:
        """Read a prompt into an empty cache; answers the next token."""
        size = self._runner.prefill_chunk
        last = (len(prompt) - 1) // size * size
        for at in range(0, last, size):
            self._runner.forward([Chunk(prompt[at : at + size], cache, LogitsWanted.NONE)])
        return greedy_step(self._runner, [Chunk(prompt[last:], cache, LogitsWanted.LAST)])[0]

    def close(self) -> None:
        self._engine.close()

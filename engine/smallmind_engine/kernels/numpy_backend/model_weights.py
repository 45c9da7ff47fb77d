"""All weights of a model: resident, or dequantised layer by layer when memory is short."""

# T tokens, C width, V vocabulary

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels.backend import Progress, WeightsMode
from smallmind_engine.kernels.numpy_backend.weights import LayerWeights, load_layer
from smallmind_engine.kernels.spec import FloatArray, IntArray, TransformerSpec, WeightSource
from smallmind_engine.kernels.tensors import (
    EMBEDDING,
    EMBEDDING_NORM,
    EMBEDDING_NORM_BIAS,
    OUTPUT,
    OUTPUT_NORM,
    OUTPUT_NORM_BIAS,
    POSITIONS,
    TOKEN_TYPES,
    require,
)

ROWS_AT_ONCE: Final = 8192
_FLOAT_BYTES: Final = 4


class ModelWeights:
    """The weights, and the two products at the model's ends. Thread-safe.

    Args:
        spec: the model.
        source: has the tensors; must stay open as long as the weights are used.
        mode: where dequantised weights live.
        limit: stops the loading.
        on_progress: told of dequantised bytes.
    """

    def __init__(
        self,
        spec: TransformerSpec,
        source: WeightSource,
        mode: WeightsMode,
        limit: WorkLimit,
        on_progress: Progress | None,
    ) -> None:
        self.mode = mode
        self._spec = spec
        self._source = source
        self._lock = threading.Lock()
        self._idle: list[LayerWeights] = []
        self._output_name = OUTPUT if source.has(OUTPUT) else EMBEDDING
        for name in {EMBEDDING, self._output_name}:
            require(source, name, (spec.vocab_size, spec.width))
        if not spec.norm_after:  # behind the last block there is one already
            require(source, OUTPUT_NORM, (spec.width,))
        self.output_norm = self._vector(OUTPUT_NORM)
        self.output_norm_bias = self._vector(OUTPUT_NORM_BIAS)
        self.embedding_norm = self._vector(EMBEDDING_NORM)
        self.embedding_norm_bias = self._vector(EMBEDDING_NORM_BIAS)
        self.token_type = _first_token_type(spec, source)
        self.positions: FloatArray | None = None
        if spec.learned_positions:
            require(source, POSITIONS, (spec.context_length, spec.width))
            self.positions = source.floats(POSITIONS)
        self._layers: list[LayerWeights] = []
        self._output: FloatArray | None = None
        if mode is WeightsMode.RESIDENT:
            try:
                self._load(limit, on_progress)
            except BaseException:
                # Or the error's traceback would keep in memory what is there. The system takes
                # longer to take it back than someone who cancels should wait.
                threading.Thread(target=_drop_all, args=(self._layers,), daemon=True).start()
                raise
        else:
            self._idle.append(load_layer(spec, source, 0, limit=limit))

    def _vector(self, name: str) -> FloatArray | None:
        if not self._source.has(name):
            return None
        require(self._source, name, (self._spec.width,))
        return self._source.floats(name)

    def _load(self, limit: WorkLimit, on_progress: Progress | None) -> None:
        spec = self._spec
        total = resident_bytes(spec, self._source)
        done = 0

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            limit.check("dequantising weights")
            if on_progress is not None:
                on_progress(min(done, total), total)

        for index in range(spec.n_layers):
            layer = load_layer(spec, self._source, index, limit=limit, read_once=True)
            self._layers.append(layer)
            advance(layer.nbytes)
        output = np.empty((spec.vocab_size, spec.width), np.float32)
        for begin in range(0, spec.vocab_size, ROWS_AT_ONCE):
            rows = slice(begin, min(begin + ROWS_AT_ONCE, spec.vocab_size))
            self._source.floats(self._output_name, rows=rows, out=output[rows], limit=limit)
            self._source.release(self._output_name)
            advance(output[rows].nbytes)
        self._output = output

    @property
    def nbytes(self) -> int:
        """Memory of the dequantised weights."""
        ends = sum(
            part.nbytes
            for part in (
                self.output_norm,
                self.output_norm_bias,
                self.embedding_norm,
                self.embedding_norm_bias,
                self.token_type,
                self.positions,
                self._output,
            )
            if part is not None
        )
        return ends + sum(layer.nbytes for layer in (*self._layers, *self._idle))

    @contextmanager
    def layer(self, index: int) -> Iterator[LayerWeights]:
        """The weights of a layer, for use inside the ``with`` block."""
        if self.mode is WeightsMode.RESIDENT:
            yield self._layers[index]
            return
        with self._lock:
            reusable = self._idle.pop() if self._idle else None
        layer = load_layer(self._spec, self._source, index, into=reusable)
        try:
            yield layer
        finally:
            with self._lock:
                self._idle.append(layer)

    def embed(self, ids: IntArray, out: FloatArray) -> None:
        """Look up embedding rows: ``ids`` of shape (T,) into ``out`` of shape (T, C)."""
        if self._output is not None and self._output_name == EMBEDDING:
            np.take(self._output, ids, axis=0, out=out)
            return
        for row, token in enumerate(ids.tolist()):
            self._source.floats(EMBEDDING, rows=slice(token, token + 1), out=out[row : row + 1])

    def project(self, x: FloatArray) -> FloatArray:
        """Scores of all tokens: ``x`` of shape (T, C) to a new array of shape (T, V)."""
        logits = np.empty((len(x), self._spec.vocab_size), np.float32)
        if self._output is not None:
            return np.matmul(x, self._output.T, out=logits)
        slab = np.empty((min(ROWS_AT_ONCE, self._spec.vocab_size), self._spec.width), np.float32)
        for begin in range(0, self._spec.vocab_size, ROWS_AT_ONCE):
            rows = slice(begin, min(begin + ROWS_AT_ONCE, self._spec.vocab_size))
            weights = slab[: rows.stop - rows.start]
            self._source.floats(self._output_name, rows=rows, out=weights)
            np.matmul(x, weights.T, out=logits[:, rows])
        return logits

    def close(self) -> None:
        """Let go of everything."""
        self._layers.clear()
        self._idle.clear()
        self._output = None


def _first_token_type(spec: TransformerSpec, source: WeightSource) -> FloatArray | None:
    """What is added to all embeddings of a text that stands alone; a second text has another."""
    if not source.has(TOKEN_TYPES):
        return None
    require(source, TOKEN_TYPES, (source.shape(TOKEN_TYPES)[0], spec.width))
    first: FloatArray = source.floats(TOKEN_TYPES, rows=slice(0, 1))[0]
    return first


def _drop_all(layers: list[LayerWeights]) -> None:
    """Forget layers one by one: the GIL is held while an array is freed."""
    while layers:
        layers.pop()


def layer_bytes(spec: TransformerSpec) -> int:
    """Memory of one dequantised layer's matrices; vectors are left out, being thousandths."""
    attention = spec.n_heads * spec.head_dim + spec.n_kv_heads * (spec.head_dim + spec.value_dim)
    up = 2 * spec.ffn_width if spec.gated else spec.ffn_width
    rows = attention + spec.n_heads * spec.value_dim + up + spec.ffn_width
    return rows * spec.width * _FLOAT_BYTES


def resident_bytes(spec: TransformerSpec, source: WeightSource) -> int:
    """Memory of all weights when resident."""
    positions = source.shape(POSITIONS)[0] * spec.width if spec.learned_positions else 0
    ends = (spec.vocab_size * spec.width + positions) * _FLOAT_BYTES
    return spec.n_layers * layer_bytes(spec) + ends

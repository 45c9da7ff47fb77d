"""What the blocks of a step took, for those who want to know. Coarser than compiled kernels."""

# T tokens, C width, V vocabulary

from __future__ import annotations

import time
from collections.abc import Sequence

from smallmind_engine.kernels.attention_span import attention_span
from smallmind_engine.kernels.backend import Chunk, OperationTime
from smallmind_engine.kernels.numpy_backend.weights import LayerWeights
from smallmind_engine.kernels.spec import FloatArray, TransformerSpec

_FLOAT_BYTES = 4
_TYPE = "F32"


class BlockTimes:
    """Measures from call to call of its methods.

    Args:
        spec: the model.
        chunks: of the step, before their tokens are in the caches.

    Attributes:
        operations: the blocks so far.
    """

    def __init__(self, spec: TransformerSpec, chunks: Sequence[Chunk]) -> None:
        self._spec = spec
        self._spans = [(chunk.cache.length, len(chunk.token_ids)) for chunk in chunks]
        self._tokens = sum(count for _, count in self._spans)
        self._begin = 0.0
        self.operations: list[OperationTime] = []

    def begin(self) -> None:
        """A block begins now."""
        self._begin = time.perf_counter()

    def attention(self, index: int, layer: LayerWeights) -> None:
        """The attention block of a layer ended, and the next block begins."""
        spec = self._spec
        pairs, positions = attention_span(self._spans, spec.layers[index].window)
        cached = positions * spec.n_kv_heads * (spec.head_dim + spec.value_dim) * _FLOAT_BYTES
        flops = 2 * pairs * spec.n_heads * (spec.head_dim + spec.value_dim)
        weights = (layer.qkv, layer.attention_output)
        self._ended("attention_block", index, self._tokens, weights, cached, flops)

    def feed_forward(self, index: int, layer: LayerWeights) -> None:
        """The feed-forward block of a layer ended."""
        self._ended("ffn_block", index, self._tokens, (layer.up, layer.down), 0, 0)

    def output(self, n_wanted: int) -> None:
        """The output projection of some rows ended."""
        if not n_wanted:
            return
        spec = self._spec
        size = spec.vocab_size * spec.width
        self._ended("output", None, n_wanted, (), size * _FLOAT_BYTES, 2 * size * n_wanted)

    def _ended(
        self,
        op: str,
        layer: int | None,
        tokens: int,
        weights: Sequence[FloatArray],
        more_bytes: int,
        more_flops: int,
    ) -> None:
        now = time.perf_counter()
        inputs = tokens * self._spec.width * _FLOAT_BYTES
        n_bytes = sum(weight.nbytes for weight in weights) + inputs + more_bytes
        flops = 2 * tokens * sum(weight.size for weight in weights) + more_flops
        seconds, self._begin = now - self._begin, now
        self.operations.append(OperationTime(op, layer, _TYPE, tokens, seconds, n_bytes, flops))

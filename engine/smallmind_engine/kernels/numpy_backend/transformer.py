"""One step of a transformer over chunks of several sequences."""

# T new tokens of all chunks, C width, H query heads, K kv-heads, G = H/K,
# D key size, E value size, F inner width, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from smallmind_engine.cache import DenseKVCache, KVType
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.backend import (
    Chunk,
    LogitsWanted,
    OnOperations,
    Output,
    WeightsMode,
)
from smallmind_engine.kernels.finite_watch import FiniteWatch
from smallmind_engine.kernels.numpy_backend.attention import attend
from smallmind_engine.kernels.numpy_backend.block_times import BlockTimes
from smallmind_engine.kernels.numpy_backend.model_weights import ModelWeights
from smallmind_engine.kernels.numpy_backend.ops import (
    ROWS_IN_CACHE,
    SCRATCH_ROWS,
    activate,
    layer_norm,
    rms_norm,
    rotate,
    softcap,
)
from smallmind_engine.kernels.numpy_backend.outputs import check_encodes, logit_rows, outputs_of
from smallmind_engine.kernels.numpy_backend.weights import LayerWeights
from smallmind_engine.kernels.numpy_backend.workspace import Workspace, WorkspacePool
from smallmind_engine.kernels.rotation import RotationTable
from smallmind_engine.kernels.spec import FloatArray, IntArray, NormKind, TransformerSpec

PREFILL_CHUNK: Final = 512
CLOSE_TIMEOUT_S: Final = 5.0


def step_tokens(spec: TransformerSpec) -> int:
    """Tokens that a step takes at most for good speed; an encoder reads a whole text at once."""
    return PREFILL_CHUNK if spec.causal else max(PREFILL_CHUNK, spec.context_length)


class NumpyRunner:
    """A model ready to run on NumPy. Thread-safe, as long as no two calls share a KV cache.

    Args:
        spec: the model.
        weights: its weights; owned by the runner from now on.
    """

    backend: Final = "numpy"
    batch_invariant: Final = False
    kv_type: Final = KVType.F32

    def __init__(self, spec: TransformerSpec, weights: ModelWeights) -> None:
        self._spec = spec
        self._weights = weights
        self.prefill_chunk: Final = step_tokens(spec)
        self._pool = WorkspacePool()
        tables = {layer.rope for layer in spec.layers if layer.rope is not None}
        self._rotations = {table: RotationTable(table) for table in tables}

    @property
    def weights_mode(self) -> WeightsMode:
        """Where the dequantised weights live."""
        return self._weights.mode

    @property
    def weight_bytes(self) -> int:
        """Memory that the prepared weights take."""
        return self._weights.nbytes

    @property
    def scratch_bytes(self) -> int:
        """Memory that the activation buffers take now."""
        return self._pool.nbytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that one token takes in a KV cache, over all layers."""
        return self._spec.kv_values_per_token * 4

    def new_cache(self, capacity: int) -> DenseKVCache:
        """An empty KV cache with room for ``capacity`` tokens."""
        spec = self._spec
        n_layers = spec.n_layers if spec.causal else 0  # an encoder only counts its tokens
        return DenseKVCache(n_layers, spec.n_kv_heads, spec.head_dim, spec.value_dim, capacity)

    def close(self) -> None:
        """Let go of the weights, once no step is under way any more."""
        self._pool.wait_idle(CLOSE_TIMEOUT_S)
        self._weights.close()

    def forward(
        self,
        chunks: Sequence[Chunk],
        limit: WorkLimit = NO_LIMIT,
        on_operations: OnOperations | None = None,
    ) -> list[Output]:
        """Run one step; see ``ModelRunner.forward``."""
        for chunk in chunks:
            chunk.cache.check_room(len(chunk.token_ids))
            if not self._spec.causal:
                check_encodes(chunk)
        # exp overflows to infinity in SiLU, where 1/inf = 0 is the right limit.
        times = None if on_operations is None else BlockTimes(self._spec, chunks)
        with self._pool.lend() as workspace, np.errstate(over="ignore"):
            outputs = self._step(chunks, workspace, limit, times)
        if on_operations is not None and times is not None:
            on_operations(times.operations)
        return outputs

    def find_non_finite(self, token_ids: IntArray) -> str:
        """Where NaN or infinity first appears; see ``ModelRunner.find_non_finite``."""
        chunk = Chunk(token_ids, self.new_cache(len(token_ids)), LogitsWanted.ALL)
        watch = FiniteWatch()
        with self._pool.lend() as workspace, np.errstate(all="ignore"):
            (logits,) = self._step([chunk], workspace, NO_LIMIT, None, watch)
        if isinstance(logits, np.ndarray):
            watch.see("output", logits)
        return watch.first

    def _step(
        self,
        chunks: Sequence[Chunk],
        workspace: Workspace,
        limit: WorkLimit,
        times: BlockTimes | None,
        watch: FiniteWatch | None = None,
    ) -> list[Output]:
        spec = self._spec
        ids = np.concatenate([chunk.token_ids for chunk in chunks])
        positions = np.concatenate(
            [chunk.cache.length + np.arange(len(chunk.token_ids)) for chunk in chunks]
        )
        x = workspace.floats("x", (len(ids), spec.width))
        self._embed(ids, positions, x)
        if watch is not None:
            watch.see("embedding", x)
        rotations = {table: r.at(positions) for table, r in self._rotations.items()}
        for index, layer_spec in enumerate(spec.layers):
            limit.check("a step of the model")
            with self._weights.layer(index) as layer:
                rotation = None if layer_spec.rope is None else rotations[layer_spec.rope]
                if times is None:
                    self._attention(index, layer, chunks, x, rotation, workspace)
                    self._feed_forward(layer, x, workspace)
                    if watch is not None:
                        watch.see_layer(index, x)
                    continue
                times.begin()
                self._attention(index, layer, chunks, x, rotation, workspace)
                times.attention(index, layer)
                self._feed_forward(layer, x, workspace)
                times.feed_forward(index, layer)
        outputs = outputs_of(chunks, x, self._norm_last, self._project)
        if times is not None:
            times.output(logit_rows(chunks))
        for chunk in chunks:
            chunk.cache.length += len(chunk.token_ids)
        return outputs

    def _embed(self, ids: IntArray, positions: IntArray, x: FloatArray) -> None:
        """Put embeddings of tokens, types and positions into ``x``, shape (T, C)."""
        weights = self._weights
        weights.embed(ids, x)
        if self._spec.embedding_scale != 1.0:
            np.multiply(x, np.float32(self._spec.embedding_scale), out=x)
        if weights.token_type is not None:
            np.add(x, weights.token_type, out=x)
        if weights.positions is not None:
            np.add(x, weights.positions[positions], out=x)
        if weights.embedding_norm is not None:
            self._norm(x, weights.embedding_norm, weights.embedding_norm_bias, x)

    def _norm(
        self, x: FloatArray, weight: FloatArray, bias: FloatArray | None, out: FloatArray
    ) -> FloatArray:
        if self._spec.norm is NormKind.RMS:
            return rms_norm(x, weight, self._spec.norm_eps, out)
        return layer_norm(x, weight, bias, self._spec.norm_eps, out)

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        chunks: Sequence[Chunk],
        x: FloatArray,
        rotation: tuple[FloatArray, FloatArray] | None,
        workspace: Workspace,
    ) -> None:
        """Add the attention block's output to ``x``, shape (T, C)."""
        spec = self._spec
        n_tokens = len(x)
        n_queries, n_keys = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
        norm, norm_bias = layer.attention_norm, layer.attention_norm_bias
        h = workspace.floats("h", x.shape)
        inputs = x if spec.norm_after else self._norm(x, norm, norm_bias, h)
        qkv = workspace.floats("qkv", (n_tokens, len(layer.qkv)))
        np.matmul(inputs, layer.qkv.T, out=qkv)
        if layer.qkv_bias is not None:
            np.add(qkv, layer.qkv_bias, out=qkv)
        queries_keys = qkv[:, : n_queries + n_keys].reshape(n_tokens, -1, spec.head_dim)
        queries, keys = queries_keys[:, : spec.n_heads], queries_keys[:, spec.n_heads :]
        values = qkv[:, n_queries + n_keys :].reshape(n_tokens, spec.n_kv_heads, spec.value_dim)
        if layer.query_norm is not None and layer.key_norm is not None:
            rms_norm(queries, layer.query_norm, spec.norm_eps, queries)
            rms_norm(keys, layer.key_norm, spec.norm_eps, keys)
        if rotation is not None:
            rotate(queries_keys, *rotation)
        np.multiply(queries, np.float32(spec.attention_scale), out=queries)
        mixed = workspace.floats("attended", (n_tokens, spec.n_heads * spec.value_dim))
        begin = 0
        for chunk in chunks:
            end = begin + len(chunk.token_ids)
            self._attend_chunk(
                index, chunk, queries[begin:end], keys[begin:end], values[begin:end],
                mixed[begin:end], workspace,
            )  # fmt: skip
            begin = end
        self._add_projected(
            x, mixed, layer.attention_output, layer.attention_output_bias,
            layer.post_attention_norm, h,
        )  # fmt: skip
        if spec.norm_after:
            self._norm(x, norm, norm_bias, x)

    def _attend_chunk(
        self,
        index: int,
        chunk: Chunk,
        queries: FloatArray,
        keys: FloatArray,
        values: FloatArray,
        out: FloatArray,
        workspace: Workspace,
    ) -> None:
        """Store a chunk's keys and values, and let its queries look at all of the sequence."""
        spec = self._spec
        grouped = (len(queries), spec.n_kv_heads, spec.n_heads // spec.n_kv_heads, -1)
        if not spec.causal:
            attend(
                queries.reshape(grouped),
                keys.transpose(1, 0, 2),
                values.transpose(1, 0, 2),
                0,
                None,
                spec.attention_softcap,
                out.reshape(grouped),
                workspace,
                causal=False,
            )
            return
        cache = chunk.cache
        if not isinstance(cache, DenseKVCache):  # pragma: no cover - made by ``new_cache``
            raise TypeError(cache)
        start = cache.length
        end = start + len(queries)
        cached_keys, cached_values = cache.keys[index], cache.values[index]
        cached_keys[:, start:end] = keys.transpose(1, 0, 2)
        cached_values[:, start:end] = values.transpose(1, 0, 2)
        attend(
            queries.reshape(grouped),
            cached_keys[:, :end],
            cached_values[:, :end],
            start,
            spec.layers[index].window,
            spec.attention_softcap,
            out.reshape(grouped),
            workspace,
        )

    def _feed_forward(self, layer: LayerWeights, x: FloatArray, workspace: Workspace) -> None:
        """Add the feed-forward block's output to ``x``, shape (T, C)."""
        spec = self._spec
        norm, norm_bias = layer.ffn_norm, layer.ffn_norm_bias
        h = workspace.floats("h", x.shape)
        inputs = x if spec.norm_after else self._norm(x, norm, norm_bias, h)
        up = workspace.floats("up", (len(x), len(layer.up)))
        np.matmul(inputs, layer.up.T, out=up)
        if layer.up_bias is not None:
            np.add(up, layer.up_bias, out=up)
        scratch = workspace.floats("activation", (SCRATCH_ROWS, spec.ffn_width))
        inner = up
        if spec.gated:
            inner = workspace.floats("inner", (len(x), spec.ffn_width))
            activate_gated(spec, up, inner, scratch)
        else:
            activate(spec.activation, inner, scratch)
        self._add_projected(x, inner, layer.down, layer.down_bias, layer.post_ffn_norm, h)
        if spec.norm_after:
            self._norm(x, norm, norm_bias, x)

    def _add_projected(
        self,
        x: FloatArray,
        inner: FloatArray,
        weight: FloatArray,
        bias: FloatArray | None,
        post_norm: FloatArray | None,
        scratch: FloatArray,
    ) -> None:
        """Project a block's result back to the width, and add it to the residual stream."""
        np.matmul(inner, weight.T, out=scratch)
        if bias is not None:
            np.add(scratch, bias, out=scratch)
        if post_norm is not None:
            self._norm(scratch, post_norm, None, scratch)
        np.add(x, scratch, out=x)

    def _norm_last(self, rows: FloatArray) -> FloatArray:
        """The norm behind the last layer, in place; models that norm behind blocks have none."""
        weights = self._weights
        if weights.output_norm is None:
            return rows
        return self._norm(rows, weights.output_norm, weights.output_norm_bias, rows)

    def _project(self, rows: FloatArray) -> FloatArray:
        logits = self._weights.project(rows)
        cap = self._spec.logit_softcap
        return logits if cap is None else softcap(logits, cap)


def activate_gated(
    spec: TransformerSpec, up: FloatArray, inner: FloatArray, scratch: FloatArray
) -> None:
    """Multiply the activated gate with the other half.

    Args:
        spec: tells the activation.
        up: shape (T, 2F), gate first.
        inner: shape (T, F); receives the result.
        scratch: as in ``activate``.

    Source: Shazeer 2020, eq. 6 (arXiv:2002.05202).
    """
    width = inner.shape[1]
    for start in range(0, len(up), ROWS_IN_CACHE):
        part = slice(start, start + ROWS_IN_CACHE)
        gate, other, out = up[part, :width], up[part, width:], inner[part]
        activate(spec.activation, gate, scratch)
        np.multiply(gate, other, out=out)

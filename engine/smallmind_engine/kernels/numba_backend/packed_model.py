"""A model's weights as compiled code takes them: one arena, and tables that say what is where."""

# C width, H query heads, K kv-heads, D key size, E value size, F inner width

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels.backend import Progress
from smallmind_engine.kernels.numba_backend.matrix_plan import (
    MatrixPlan,
    arena_bytes,
    head_order,
)
from smallmind_engine.kernels.numba_backend.records import Layer, Matrix
from smallmind_engine.kernels.packing import pack_matrix, planes
from smallmind_engine.kernels.spec import FloatArray, TransformerSpec, WeightSource
from smallmind_engine.kernels.tensors import OUTPUT_NORM, OUTPUT_NORM_BIAS, require

Words = npt.NDArray[np.int64]

_LANES: Final = 16
_RELEASE_BYTES: Final = 1 << 23


def round_up(value: int, multiple: int = _LANES) -> int:
    """The smallest multiple that is not less."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True, slots=True)
class PackedModel:
    """Everything of a model that a step reads.

    Attributes:
        arena: uint8; keeps the matrices' memory alive.
        matrices: int64 (matrices, fields), see ``records.Matrix``.
        layers: int64 (layers, fields), see ``records.Layer``; page offsets are not set here.
        vectors: float32, all norm weights and biases.
        output_norm: where the last norm's weight begins; -1 for none.
        output_norm_bias: likewise.
        plans: one for each matrix, in the same order.
    """

    arena: npt.NDArray[np.uint8]
    matrices: Words
    layers: Words
    vectors: FloatArray
    output_norm: int
    output_norm_bias: int
    plans: tuple[MatrixPlan, ...]

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        parts = (self.arena, self.matrices, self.layers, self.vectors)
        return sum(part.nbytes for part in parts)


def pack_model(
    plans: Sequence[MatrixPlan],
    source: WeightSource,
    arena: npt.NDArray[np.uint8],
    limit: WorkLimit,
    on_progress: Progress | None,
) -> None:
    """Pack all matrices into ``arena``, tensor by tensor.

    Raises:
        OperationCancelledError: ``limit`` was exceeded.
    """
    total = arena_bytes(tuple(plans))
    for plan in plans:
        limit.check("packing weights")
        rows = slice(plan.first_row, plan.first_row + plan.rows)
        data = source.data(plan.tensor, rows=rows)
        read = 0

        def tell(done: int, plan: MatrixPlan = plan, size: int = data.nbytes) -> None:
            nonlocal read
            if done - read < _RELEASE_BYTES and done < size:
                return
            read = done
            # What was read is in memory twice, and a single tensor can be most of a model.
            source.release(plan.tensor)
            if on_progress is not None:
                on_progress(plan.offset + plan.n_bytes * done // size, total)

        pack_matrix(
            data,
            plan.qtype,
            plan.layout,
            plan.rows,
            plan.columns,
            arena[plan.offset : plan.offset + plan.n_bytes],
            order=plan.order,
            limit=limit,
            on_bytes=tell,
        )


class _Vectors:
    """Collects vectors into one array; each begins at a multiple of 16."""

    def __init__(self) -> None:
        self._parts: list[FloatArray] = []
        self._size = 0

    def add(self, values: FloatArray | None, size: int | None = None) -> int:
        """Append a vector, padded to ``size``; answers where it begins, -1 for None."""
        if values is None:
            return -1
        begin = self._size
        padded = np.zeros(round_up(size or len(values)), np.float32)
        padded[: len(values)] = values
        self._parts.append(padded)
        self._size += len(padded)
        return begin

    def joined(self) -> FloatArray:
        """All of them."""
        return np.concatenate(self._parts)


def build_tables(
    spec: TransformerSpec,
    source: WeightSource,
    plans: Sequence[MatrixPlan],
    arena: npt.NDArray[np.uint8],
    kernels: Mapping[str, int],
) -> PackedModel:
    """Describe packed matrices, and read the vectors.

    Args:
        spec: the model.
        source: has the vectors.
        plans: of the matrices.
        arena: has the matrices, or will have.
        kernels: address of the function by the name of the layout.

    Raises:
        ModelFileError: a vector is missing or has the wrong size.
    """
    matrices = np.zeros((len(plans), len(Matrix)), np.int64)
    layers = np.full((spec.n_layers, len(Layer)), -1, np.int64)
    for index, plan in enumerate(plans):
        _describe(plan, arena, kernels[plan.layout.name], matrices[index])
        if plan.layer is not None and plan.place is not None:
            layers[plan.layer, plan.place] = index
    vectors = _Vectors()
    rope_tables = list(dict.fromkeys(layer.rope for layer in spec.layers if layer.rope is not None))
    for index, layer_spec in enumerate(spec.layers):
        _layer_vectors(spec, source, index, layers[index], vectors)
        layers[index, Layer.WINDOW] = layer_spec.window or 0
        if layer_spec.rope is not None:
            layers[index, Layer.ROTATION] = rope_tables.index(layer_spec.rope)
            layers[index, Layer.PAIRS] = len(layer_spec.rope.inverse_frequencies)
    output_norm = vectors.add(_vector(source, OUTPUT_NORM, spec.width, needed=True))
    output_bias = vectors.add(_vector(source, OUTPUT_NORM_BIAS, spec.width))
    return PackedModel(
        arena, matrices, layers, vectors.joined(), output_norm, output_bias, tuple(plans)
    )


def _describe(plan: MatrixPlan, arena: npt.NDArray[np.uint8], kernel: int, record: Words) -> None:
    where = planes(plan.layout, plan.rows, plan.columns)
    base = arena.ctypes.data + plan.offset
    record[Matrix.KERNEL] = kernel
    record[Matrix.ROWS] = plan.rows
    record[Matrix.COLUMNS] = plan.columns
    record[Matrix.GROUPS] = where.groups
    record[Matrix.LOW] = base + where.low
    record[Matrix.HIGH] = base + where.high
    record[Matrix.SCALES] = base + where.scales
    record[Matrix.SUPERS] = base + where.supers
    record[Matrix.BYTES] = plan.n_bytes
    record[Matrix.FLOAT_INPUT] = int(plan.layout.is_float)


def _vector(
    source: WeightSource, name: str, size: int, *, needed: bool = False
) -> FloatArray | None:
    if not needed and not source.has(name):
        return None
    require(source, name, (size,))
    return source.floats(name)


def _layer_vectors(
    spec: TransformerSpec, source: WeightSource, index: int, layer: Words, vectors: _Vectors
) -> None:
    at = f"blk.{index}."
    width, key, inner = spec.width, spec.head_dim, spec.ffn_width
    order = head_order(spec, index)

    def put(place: Layer, name: str, size: int, *, needed: bool = False) -> None:
        layer[place] = vectors.add(_vector(source, at + name, size, needed=needed))

    put(Layer.ATTENTION_NORM, "attn_norm.weight", width, needed=True)
    put(Layer.ATTENTION_NORM_BIAS, "attn_norm.bias", width)
    layer[Layer.QKV_BIAS] = vectors.add(_qkv_bias(spec, source, at, order))
    for place, name in ((Layer.QUERY_NORM, "attn_q_norm"), (Layer.KEY_NORM, "attn_k_norm")):
        weight = _vector(source, f"{at}{name}.weight", key)
        ordered = weight if weight is None or order is None else weight[order]
        layer[place] = vectors.add(ordered)
    put(Layer.ATTENTION_OUTPUT_BIAS, "attn_output.bias", width)
    put(Layer.POST_ATTENTION_NORM, "post_attention_norm.weight", width)
    put(Layer.FFN_NORM, "ffn_norm.weight", width, needed=True)
    put(Layer.FFN_NORM_BIAS, "ffn_norm.bias", width)
    if spec.gated and not source.has(at + "ffn_gate.weight"):
        both = _vector(source, at + "ffn_up.bias", 2 * inner)
        layer[Layer.GATE_BIAS] = vectors.add(None if both is None else both[:inner])
        layer[Layer.UP_BIAS] = vectors.add(None if both is None else both[inner:])
    else:
        put(Layer.GATE_BIAS, "ffn_gate.bias", inner)
        put(Layer.UP_BIAS, "ffn_up.bias", inner)
    put(Layer.DOWN_BIAS, "ffn_down.bias", width)
    put(Layer.POST_FFN_NORM, "post_ffw_norm.weight", width)


def qkv_columns(spec: TransformerSpec) -> tuple[int, int, int]:
    """In a row of queries, keys and values: where keys and values begin, and its length."""
    keys = round_up(spec.n_heads * spec.head_dim)
    values = keys + round_up(spec.n_kv_heads * spec.head_dim)
    return keys, values, values + round_up(spec.n_kv_heads * spec.value_dim)


def _qkv_bias(
    spec: TransformerSpec, source: WeightSource, at: str, order: Any
) -> FloatArray | None:
    """Biases in the places of the row of queries, keys and values; None when there are none."""
    queries, keys = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    values = spec.n_kv_heads * spec.value_dim
    keys_at, values_at, length = qkv_columns(spec)
    row = np.zeros(length, np.float32)
    joined = _vector(source, at + "attn_qkv.bias", queries + keys + values)
    parts: list[FloatArray | None]
    if joined is not None:
        parts = list(np.split(joined, [queries, queries + keys]))
    else:
        sizes = (("attn_q", queries), ("attn_k", keys), ("attn_v", values))
        parts = [_vector(source, f"{at}{name}.bias", size) for name, size in sizes]
    if all(part is None for part in parts):
        return None
    reorder: Callable[[FloatArray], FloatArray] = lambda part: (  # noqa: E731
        part if order is None else part.reshape(-1, spec.head_dim)[:, order].ravel()
    )
    for place, (begin, part) in enumerate(zip((0, keys_at, values_at), parts, strict=True)):
        if part is not None:
            row[begin : begin + len(part)] = part if place == 2 else reorder(part)
    return row

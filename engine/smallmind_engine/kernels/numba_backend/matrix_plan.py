"""Which matrices a model has, where their rows come from, and where they go in the arena."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf import QuantType
from smallmind_engine.kernels.numba_backend.records import Layer
from smallmind_engine.kernels.packing import SPLIT_Q8_0, PackedLayout, layout_of, planes
from smallmind_engine.kernels.rotation import halves_order
from smallmind_engine.kernels.spec import RopeLayout, TransformerSpec, WeightSource
from smallmind_engine.kernels.tensors import EMBEDDING, OUTPUT, require

ALIGNMENT: Final = 64


class MatrixPlan(NamedTuple):
    """A matrix before it is packed.

    Attributes:
        tensor: that its rows come from.
        first_row: of the tensor.
        rows: number of rows.
        columns: number of inputs.
        qtype: type in the file.
        layout: type in the arena.
        order: source row of each packed row, counted from ``first_row``; None for the same order.
        layer: index; None for the output projection.
        place: which matrix of the layer.
        offset: first byte in the arena.
        n_bytes: size there.
    """

    tensor: str
    first_row: int
    rows: int
    columns: int
    qtype: QuantType
    layout: PackedLayout
    order: npt.NDArray[np.int64] | None
    layer: int | None
    place: Layer | None
    offset: int
    n_bytes: int


class _Part(NamedTuple):
    """Rows of a tensor that become a matrix."""

    tensor: str
    first_row: int
    rows: int
    columns: int
    place: Layer | None
    order: npt.NDArray[np.int64] | None = None


def plan_matrices(spec: TransformerSpec, source: WeightSource) -> tuple[MatrixPlan, ...]:
    """All matrices in the order in which a step reads them.

    Raises:
        ModelFileError: a tensor is missing or has the wrong shape.
    """
    plans: list[MatrixPlan] = []
    offset = 0
    for layer, part in _all_parts(spec, source):
        qtype = source.qtype(part.tensor)
        layout = layout_of(qtype, part.columns)
        if layer is None and layout.name == SPLIT_Q8_0.source_type:
            layout = SPLIT_Q8_0
        n_bytes = planes(layout, part.rows, part.columns).n_bytes
        plans.append(
            MatrixPlan(
                tensor=part.tensor,
                first_row=part.first_row,
                rows=part.rows,
                columns=part.columns,
                qtype=qtype,
                layout=layout,
                order=part.order,
                layer=layer,
                place=part.place,
                offset=offset,
                n_bytes=n_bytes,
            )
        )
        offset += -(-n_bytes // ALIGNMENT) * ALIGNMENT
    return tuple(plans)


def arena_bytes(plans: tuple[MatrixPlan, ...]) -> int:
    """Size of the arena that holds them all."""
    last = plans[-1]
    return last.offset + -(-last.n_bytes // ALIGNMENT) * ALIGNMENT


def output_tensor(source: WeightSource) -> str:
    """The tensor of the output projection: often that of the embedding."""
    return OUTPUT if source.has(OUTPUT) else EMBEDDING


def _all_parts(spec: TransformerSpec, source: WeightSource) -> Iterator[tuple[int | None, _Part]]:
    for index in range(spec.n_layers):
        for part in _layer_parts(spec, source, index):
            yield index, part
    name = output_tensor(source)
    for tensor in {EMBEDDING, name}:
        require(source, tensor, (spec.vocab_size, spec.width))
    yield None, _Part(name, 0, spec.vocab_size, spec.width, None)


def _layer_parts(spec: TransformerSpec, source: WeightSource, index: int) -> Iterator[_Part]:
    at = f"blk.{index}."
    width, inner = spec.width, spec.ffn_width
    heads = (
        (Layer.QUERY, "attn_q", spec.n_heads * spec.head_dim),
        (Layer.KEY, "attn_k", spec.n_kv_heads * spec.head_dim),
        (Layer.VALUE, "attn_v", spec.n_kv_heads * spec.value_dim),
    )
    halves = ((Layer.GATE, "ffn_gate", inner), (Layer.UP, "ffn_up", inner))
    mixed = spec.n_heads * spec.value_dim
    for part in _joined(source, at, "attn_qkv", heads, width):
        yield _rotated(spec, index, part)
    yield from _joined(source, at, "", ((Layer.ATTENTION_OUTPUT, "attn_output", width),), mixed)
    gate_inside = spec.gated and not source.has(at + "ffn_gate.weight")
    wanted = halves if spec.gated else halves[1:]
    yield from _joined(source, at, "ffn_up" if gate_inside else "", wanted, width)
    yield from _joined(source, at, "", ((Layer.DOWN, "ffn_down", width),), inner)


def _joined(
    source: WeightSource,
    at: str,
    joined: str,
    parts: tuple[tuple[Layer, str, int], ...],
    columns: int,
) -> Iterator[_Part]:
    """Parts that lie in one tensor when the file has it so, or else in one each."""
    whole = f"{at}{joined}.weight"
    if joined and source.has(whole):
        require(source, whole, (sum(rows for _, _, rows in parts), columns))
        first = 0
        for place, _, rows in parts:
            yield _Part(whole, first, rows, columns, place)
            first += rows
        return
    for place, name, rows in parts:
        tensor = f"{at}{name}.weight"
        require(source, tensor, (rows, columns))
        yield _Part(tensor, 0, rows, columns, place)


def _rotated(spec: TransformerSpec, index: int, part: _Part) -> _Part:
    """Query and key heads of the NORMAL layout are reordered so that halves rotate."""
    pairs = _rotated_pairs(spec, index)
    if pairs is None or part.place is Layer.VALUE:
        return part
    return part._replace(order=_row_order(part.rows, spec.head_dim, pairs))


@lru_cache(maxsize=16)
def _row_order(rows: int, head_dim: int, pairs: int) -> npt.NDArray[np.int64]:
    """The same for all layers; not to be written to."""
    first = np.arange(0, rows, head_dim)[:, None]
    order = (first + halves_order(head_dim, pairs)[None, :]).ravel().astype(np.int64)
    order.setflags(write=False)
    return order


def _rotated_pairs(spec: TransformerSpec, index: int) -> int | None:
    """Pairs of a query or key head whose dimensions change places; None when none do."""
    rope = spec.layers[index].rope
    if rope is None or spec.rope_layout is not RopeLayout.NORMAL:
        return None
    return len(rope.inverse_frequencies)


def head_order(spec: TransformerSpec, index: int) -> npt.NDArray[np.intp] | None:
    """Where the dimensions of a query or key head come from; None for the same order."""
    pairs = _rotated_pairs(spec, index)
    return None if pairs is None else halves_order(spec.head_dim, pairs)

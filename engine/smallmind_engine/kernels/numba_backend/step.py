"""Everything that one step is given, as one record that compiled code takes apart by name."""

# T tokens, C width, H query heads, E value size, F inner width, V vocabulary

from __future__ import annotations

from typing import Any, Final, NamedTuple

from numba.core import types


class Step(NamedTuple):
    """The arguments of a step; all threads of a team get the same.

    Attributes:
        sizes: int64, see ``records.Size``.
        constants: float32, see ``records.Constant``.
        layers: int64 (layers, fields), see ``records.Layer``.
        matrices: int64 (matrices, fields), see ``records.Matrix``.
        vectors: float32, all norm weights and biases.
        turns: float32 (tables, 2, positions, pairs): cosines and sines.
        sequences: int64 (sequences, fields), see ``records.Sequence``.
        tokens: int64 (T,), the sequence that each belongs to.
        ids: int64 (T,), rows of the output matrix that are the embeddings; see ``Size.EMBED``.
        wanted: int64, the tokens that logits are wanted of.
        functions: int64, addresses, see ``records.Function``.
        stream: float32 (copies, T, C), the residual stream; embeddings at the beginning.
        normed: float32 (copies, T, C).
        qkv: float32 (T, columns).
        attended: float32 (T, H*E).
        block_out: float32 (T, C).
        inner: float32 (3, T, F): gate, up, and their activated product.
        input_planes: int64 (copies, 4), addresses of quantised inputs.
        inner_planes: int64 (4,), likewise of the feed-forward block's inner rows.
        logits: float32 (wanted, V rounded up to 16).
        search: arrays for finding the best logits only, see ``buffers.SearchBuffers``.
        jobs: int64 (threads, 2, fields), records of each thread's own, see ``records.Job``.
        attends: int64 (threads, fields), see ``records.Attend``.
        puts: int64 (threads, fields), see ``records.Put``.
        counters: int64, zeros: pieces of work that were taken.
        barrier: int64, see ``sync_ir.wait_for_all``.
        times: int64, receives the clock at the begin and after each operation.
    """

    sizes: Any
    constants: Any
    layers: Any
    matrices: Any
    vectors: Any
    turns: Any
    sequences: Any
    tokens: Any
    ids: Any
    wanted: Any
    functions: Any
    stream: Any
    normed: Any
    qkv: Any
    attended: Any
    block_out: Any
    inner: Any
    input_planes: Any
    inner_planes: Any
    logits: Any
    search: Any
    jobs: Any
    attends: Any
    puts: Any
    counters: Any
    barrier: Any
    times: Any


def _ints(dimensions: int) -> Any:
    return types.Array(types.int64, dimensions, "C")


def _floats(dimensions: int) -> Any:
    return types.Array(types.float32, dimensions, "C")


_SEARCH: Final[Any] = types.Tuple(
    [
        _floats(2),
        _floats(2),
        _floats(3),
        _floats(3),
        _floats(2),
        _floats(3),
        _ints(3),
        _ints(2),
    ]
)

_FIELDS: Final = Step(
    sizes=_ints(1),
    constants=_floats(1),
    layers=_ints(2),
    matrices=_ints(2),
    vectors=_floats(1),
    turns=_floats(4),
    sequences=_ints(2),
    tokens=_ints(1),
    ids=_ints(1),
    wanted=_ints(1),
    functions=_ints(1),
    stream=_floats(3),
    normed=_floats(3),
    qkv=_floats(2),
    attended=_floats(2),
    block_out=_floats(2),
    inner=_floats(3),
    input_planes=_ints(2),
    inner_planes=_ints(1),
    logits=_floats(2),
    search=_SEARCH,
    jobs=_ints(3),
    attends=_ints(2),
    puts=_ints(2),
    counters=_ints(1),
    barrier=_ints(1),
    times=_ints(1),
)

STEP_TYPE: Final[Any] = types.NamedTuple(list(_FIELDS), Step)
"""Numba's type of a ``Step``."""

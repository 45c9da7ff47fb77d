"""Everything that one step is given, and the table by which compiled code finds it."""

# T tokens, C width, H query heads, E value size, F inner width, V vocabulary

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np


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
        counters: int64, pieces of work that were taken; zeros before and after each call.
        barrier: int64, see ``sync_ir.wait_for_all``.
        times: int64, receives the clock at the begin and after each operation.
        ahead: int64 (threads, entries), see ``kv_ahead``.
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
    ahead: Any


DIMENSIONS: Final = Step(
    sizes=1,
    constants=1,
    layers=2,
    matrices=2,
    vectors=1,
    turns=4,
    sequences=2,
    tokens=1,
    ids=1,
    wanted=1,
    functions=1,
    stream=3,
    normed=3,
    qkv=2,
    attended=2,
    block_out=2,
    inner=3,
    input_planes=2,
    inner_planes=1,
    logits=2,
    search=(2, 3, 3, 3, 3, 3, 3, 2, 3, 2, 2, 2, 2),
    jobs=3,
    attends=2,
    puts=2,
    counters=1,
    barrier=1,
    times=1,
    ahead=2,
)
"""How many dimensions each array has."""


def _places() -> tuple[Step, int]:
    """Where each array stands in the table, and the size of the table."""
    end = 0

    def place(dimensions: int) -> int:
        nonlocal end
        begin, end = end, end + 1 + dimensions
        return begin

    found = [
        tuple(map(place, each)) if isinstance(each, tuple) else place(each) for each in DIMENSIONS
    ]
    return Step(*found), end


PLACES, TABLE_WORDS = _places()
"""An array's words in the table are its address and its shape, from this word on."""


class StepTable:
    """A ``Step`` as C functions take it: one array of addresses and shapes.

    Args:
        step: the arrays, C-contiguous; some may be put in place later.

    Attributes:
        address: of the table.
    """

    __slots__ = ("_kept", "_words", "address")

    def __init__(self, step: Step) -> None:
        self._words = np.zeros(TABLE_WORDS, np.int64)
        self.address: Final = self._words.ctypes.data
        self._kept: dict[str, Any] = {}
        for name, arrays in step._asdict().items():
            self.put(name, arrays)

    def put(self, name: str, arrays: Any) -> None:
        """Put an array in place, or the arrays of ``search``; they are kept alive from now on."""
        if self._kept.get(name) is arrays:
            return
        self._kept[name] = arrays
        places = getattr(PLACES, name)
        if isinstance(places, int):
            places, arrays = (places,), (arrays,)
        for place, array in zip(places, arrays, strict=True):
            # Not through ``ctypes``, whose objects may outlive their use: one for some steps.
            self._words[place] = array.__array_interface__["data"][0]
            self._words[place + 1 : place + 1 + array.ndim] = array.shape

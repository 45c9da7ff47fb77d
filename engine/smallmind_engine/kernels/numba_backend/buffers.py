"""Memory of a step's activations: allocated once for a number of tokens, used again and again."""

# T tokens, C width, H query heads, K kv-heads, E value size, F inner width

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.numba_backend.packed_model import qkv_columns, round_up
from smallmind_engine.kernels.numba_backend.records import (
    ATTEND_WORDS,
    BARRIER_WORDS,
    BEST_GROUPS,
    COUNTER_WORDS,
    COUNTERS_PER_LAYER,
    LINE_FLOATS,
    LINE_WORDS,
    MAX_QUERY_ROWS,
    MOST_AHEAD_TOKENS,
    MOST_BEST,
    OUTLIERS,
    PAGE_TOKENS,
    PUT_WORDS,
    SCALE_FIELDS,
    SEARCHED_GROUPS,
    SPARE_TOKENS,
    TERMS,
    TOKEN_TILE,
    Attend,
    Job,
    Operation,
    Sequence,
)
from smallmind_engine.kernels.spec import TransformerSpec

PRIVATE_TOKENS: Final = 4
"""Up to so many tokens each thread keeps its own copy of the residual stream."""

_BLOCK: Final = 32
_ALIGNMENT: Final = 64
_CAPACITY_STEP: Final = 4
_BLOCK_WEIGHTS: Final = 512
_MOST_AHEAD: Final = 8192
OUTPUT_COUNTERS: Final = 3
"""For the output projection, and for a search: for its bounds, and for what may be the best."""


def step_capacities(most_tokens: int) -> tuple[int, ...]:
    """The numbers of tokens that there are buffers for: few, each four times the one before."""
    capacities = [PRIVATE_TOKENS]
    while capacities[-1] < most_tokens:
        capacities.append(min(_CAPACITY_STEP * capacities[-1], most_tokens))
    return tuple(capacities)


def ahead_entries(spec: TransformerSpec, capacity: int, threads: int) -> int:
    """Places that a thread may ask for ahead in a layer, see ``kv_ahead``.

    One for each block of its weights, but no more than some megabytes.
    """
    if not PRIVATE_TOKENS < capacity < _CAPACITY_STEP * MOST_AHEAD_TOKENS:
        return 0
    mixed = spec.n_heads * spec.value_dim
    columns = qkv_columns(spec)[2] + mixed + 3 * spec.ffn_width
    return min(columns * spec.width // _BLOCK_WEIGHTS // threads, _MOST_AHEAD)


def apart(floats: int) -> int:
    """So many floats and a few more, for rows that do not all come to the same few cache sets.

    Caches choose a set by the lowest bits of a line's number: rows of a power of two get in each
    other's way. An odd number of lines comes to all sets.
    """
    return (-(-floats // LINE_FLOATS) | 1) * LINE_FLOATS


def aligned(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Zeros that begin at a cache line."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    whole: npt.NDArray[Any] = memory[begin : begin + size].view(kind)
    return whole.reshape(shape)


class _Planes:
    """Quantised rows: codes and scales, as ``records.Job`` describes them."""

    def __init__(self, columns: int, stride: int) -> None:
        blocks = -(-columns // _BLOCK)
        self.codes = aligned((blocks, stride, _BLOCK), np.int8)
        self.scales = aligned((blocks, stride, SCALE_FIELDS), np.float32)

    @property
    def parts(self) -> tuple[npt.NDArray[Any], ...]:
        return self.codes, self.scales

    @property
    def addresses(self) -> list[int]:
        return [part.ctypes.data for part in self.parts]


class SearchBuffers:
    """Arrays for finding the best outputs; see ``screening`` and ``best_outputs``.

    ``best_logits`` and ``best_ids`` begin each thread's row of a token with the result (-1 for
    none); behind the logit stands what others must reach, behind the id how many groups were
    checked. ``doubts`` has for each thread whether an output was further off than plausible or is
    no number, and how often a group was computed in full. ``picked`` lists the tokens of such a
    computation, ``exact`` receives its outputs. ``terms`` is what bounds are made of, see
    ``screening_ir.terms``; ``outliers`` and ``energies`` are for ``outliers.find_outliers``.
    ``undecided`` marks the groups that a thread is to look into.
    ``logit_numbers``, ``id_words`` and ``doubt_words`` are views of arrays through which single
    numbers are read faster.

    Args:
        spec: the model.
        threads: of the team.
    """

    def __init__(self, spec: TransformerSpec, threads: int) -> None:
        tokens = MOST_BEST + SPARE_TOKENS
        blocks = -(-spec.width // _BLOCK)
        # Rows of threads are cache lines of their own.
        groups = -(-spec.vocab_size // 16)
        self.bounds = aligned((MOST_BEST, apart(groups)), np.float32)
        self.terms = aligned((threads, tokens, round_up(blocks * TERMS + OUTLIERS)), np.float32)
        self.reached = aligned((MOST_BEST, threads, 16), np.float32)
        self.scratch = aligned((threads, 2, 16), np.float32)
        self.exact = aligned((threads, SPARE_TOKENS, 16), np.float32)
        self.best_logits = aligned((threads, MOST_BEST, LINE_FLOATS), np.float32)
        self.best_ids = aligned((threads, MOST_BEST, LINE_WORDS), np.int64)
        self.doubts = aligned((threads, LINE_WORDS), np.int64)
        outputs = (threads, tokens, 16 * BEST_GROUPS)
        self.outputs = aligned(outputs, np.float32)
        self.picked = aligned((threads, LINE_WORDS), np.int64)
        self.outliers = aligned((threads, 2 * LINE_WORDS), np.int64)
        self.energies = aligned((threads, blocks * _BLOCK), np.int32)
        self.undecided = aligned((threads, SEARCHED_GROUPS), np.int64)
        self.arrays: Final[tuple[npt.NDArray[Any], ...]] = tuple(vars(self).values())
        self.groups: Final = groups
        self.logit_numbers: Final = self.best_logits.reshape(-1).data
        self.id_words: Final = self.best_ids.reshape(-1).data
        self.doubt_words: Final = self.doubts.reshape(-1).data


class StepBuffers:
    """Arrays for steps of up to ``capacity`` tokens.

    ``sequence_words`` and ``id_words`` are views of ``sequences`` and ``ids`` through which single
    numbers are written and read faster than through NumPy.

    Args:
        spec: the model.
        capacity: T.
        threads: of the team.
    """

    def __init__(self, spec: TransformerSpec, capacity: int, threads: int) -> None:
        self.capacity: Final = capacity
        self.private: Final = capacity <= PRIVATE_TOKENS
        self.stride: Final = round_up(capacity, SPARE_TOKENS)
        copies = threads if self.private else 1
        width, inner = round_up(spec.width), round_up(spec.ffn_width)
        mixed = spec.n_heads * spec.value_dim
        self.stream = aligned((copies, capacity, width), np.float32)
        self.normed = aligned((copies, capacity, width), np.float32)
        self.qkv = aligned((capacity, qkv_columns(spec)[2]), np.float32)
        self.attended = aligned((capacity, mixed), np.float32)
        self.block_out = aligned((capacity, width), np.float32)
        self.inner = aligned((3, capacity, inner), np.float32)
        inputs = [_Planes(max(spec.width, mixed), self.stride) for _ in range(copies)]
        inner_rows = _Planes(spec.ffn_width, self.stride)
        self.input_planes = np.array([planes.addresses for planes in inputs], np.int64)
        self.inner_planes = np.array(inner_rows.addresses, np.int64)
        self.tokens = aligned((capacity,), np.int64)
        self.sequences = aligned((capacity, len(Sequence)), np.int64)
        self.ids = aligned((capacity,), np.int64)
        self.wanted = aligned((capacity,), np.int64)
        self.sequence_words: Final = self.sequences.reshape(-1).data
        self.id_words: Final = self.ids.data
        self.jobs = aligned((threads, 2, round_up(len(Job))), np.int64)
        self.attends = aligned((threads, round_up(ATTEND_WORDS)), np.int64)
        self.puts = aligned((threads, round_up(PUT_WORDS)), np.int64)
        self.counters = aligned(
            ((spec.n_layers * COUNTERS_PER_LAYER + OUTPUT_COUNTERS) * COUNTER_WORDS,), np.int64
        )
        self.barrier = aligned((BARRIER_WORDS,), np.int64)
        self.times = aligned((spec.n_layers * len(Operation) + 2,), np.int64)
        self.ahead = aligned((threads, ahead_entries(spec, capacity, threads)), np.int64)
        tile = aligned((threads, TOKEN_TILE + SPARE_TOKENS, 16), np.float32)
        stored = round_up(spec.value_dim)
        attention = aligned((threads, MAX_QUERY_ROWS * (PAGE_TOKENS + stored)), np.float32)
        for thread in range(threads):
            self.jobs[thread, :, Job.SCRATCH] = tile[thread].ctypes.data
            self.attends[thread, Attend.SCRATCH] = attention[thread].ctypes.data
        self._kept = (tile, attention, *(part for p in (*inputs, inner_rows) for part in p.parts))

    @property
    def nbytes(self) -> int:
        """Memory of all."""
        named = (value for value in vars(self).values() if isinstance(value, np.ndarray))
        return sum(part.nbytes for part in (*named, *self._kept))

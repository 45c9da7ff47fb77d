"""Compiled kernels, called by address as a step does it, with records made of NumPy arrays."""

# T tokens, R rows, K columns, NB blocks of 32 columns

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cfunc

from packed_weights import PackedMatrix, aligned_bytes
from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource, compile_kernels
from smallmind_engine.kernels.numba_backend.emit.attention_ir import attention
from smallmind_engine.kernels.numba_backend.emit.float_matmul import float_product
from smallmind_engine.kernels.numba_backend.emit.kv_store_ir import store_row
from smallmind_engine.kernels.numba_backend.emit.matmul import packed_product
from smallmind_engine.kernels.numba_backend.emit.matmul import picked_product as picked
from smallmind_engine.kernels.numba_backend.emit.row_decode import float_row, packed_row
from smallmind_engine.kernels.numba_backend.emit.screening_ir import screen, screen_several
from smallmind_engine.kernels.numba_backend.isa import IsaTier, host_features, usable_tiers
from smallmind_engine.kernels.numba_backend.kernel_names import (
    PICKED,
    SCREEN,
    SCREEN_SEVERAL,
    attention_name,
    product_name,
    row_name,
    store_name,
)
from smallmind_engine.kernels.numba_backend.records import (
    MAX_QUERY_ROWS,
    PAGE_TOKENS,
    SCALE_FIELDS,
    TOKEN_TILE,
    Attend,
    InputScale,
    Job,
    Matrix,
    Pick,
    Put,
    QueryRow,
)
from smallmind_engine.kernels.packing import SPLIT_Q8_0, PackedLayout, planes

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.int64]
Call = Callable[[int, int], None]

TIERS = usable_tiers(host_features())
"""The tiers that run here, best first."""

LANES = 16
BLOCK = 32


# -- compiling ----------------------------------------------------------------------------------


def _kernel(name: str, tier: IsaTier, function: Callable[[], Callable[..., None]]) -> Call:
    kernels, _ = compile_kernels([KernelSource(name, function)], tier=tier)
    call: Call = kernels[name].call
    return call


@cache
def product(tier: IsaTier, layout: PackedLayout) -> Call:
    """The product with weights of a layout."""
    make = (
        (lambda: float_product(tier, layout.name))
        if layout.is_float
        else (lambda: packed_product(tier, layout))
    )
    return _kernel(product_name(layout), tier, make)


@cache
def picked_product(tier: IsaTier) -> Call:
    """The product with an output matrix for tokens of a list."""
    return _kernel(PICKED, tier, lambda: picked(tier, SPLIT_Q8_0))


@cache
def row_reader(tier: IsaTier, layout: PackedLayout) -> Call:
    """What reads rows back."""
    make = (
        (lambda: float_row(tier, layout.name))
        if layout.is_float
        else (lambda: packed_row(tier, layout))
    )
    return _kernel(row_name(layout), tier, make)


@cache
def attender(tier: IsaTier, kind: KVType, rows: int) -> Call:
    """Attention of so many query rows."""
    return _kernel(attention_name(kind, rows), tier, lambda: attention(tier, kind, rows))


@cache
def writer(tier: IsaTier, kind: KVType) -> Call:
    """What writes into a cache."""
    return _kernel(store_name(kind), tier, lambda: store_row(tier, kind))


@cache
def screener(tier: IsaTier, *, several: bool) -> Call:
    """What bounds outputs, of one token or of several."""
    if several:
        return _kernel(SCREEN_SEVERAL, tier, lambda: screen_several(tier))
    return _kernel(SCREEN, tier, lambda: screen(tier))


def c_function(signature: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A small function compiled for this test run only."""
    compiled = cfunc(signature, error_model="numpy")(function)
    call: Callable[..., Any] = compiled.ctypes
    return call


# -- memory -------------------------------------------------------------------------------------


def zeros(shape: int | tuple[int, ...], kind: npt.DTypeLike) -> Any:
    """An aligned array of zeros."""
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    return aligned_bytes(count).view(kind).reshape(shape)


def address(array: npt.NDArray[Any]) -> int:
    """Where an array begins."""
    where: int = array.ctypes.data
    return where


def float_bits(value: float) -> int:
    """A float32 as the integer that a record holds it as."""
    return int(np.float32(value).view(np.int32))


def matrix_record(matrix: PackedMatrix) -> Words:
    """A ``Matrix`` record; the kernel's address is left out."""
    where = planes(matrix.layout, matrix.rows, matrix.columns)
    base = address(matrix.packed)
    record = np.zeros(len(Matrix), np.int64)
    record[Matrix.ROWS] = matrix.rows
    record[Matrix.COLUMNS] = matrix.columns
    record[Matrix.GROUPS] = where.groups
    record[Matrix.LOW] = base + where.low
    record[Matrix.HIGH] = base + where.high
    record[Matrix.SCALES] = base + where.scales
    record[Matrix.SUPERS] = base + where.supers
    record[Matrix.BYTES] = where.n_bytes
    record[Matrix.FLOAT_INPUT] = matrix.layout.is_float
    return record


# -- products -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantized:
    """Inputs of integer products.

    Attributes:
        codes: int8 (NB, stride, 32); as all others with room for three tokens behind the last.
        scales: float32 (NB, stride, SCALE_FIELDS), see ``InputScale``.
        values: float64 (T, K): what they stand for.
    """

    codes: npt.NDArray[np.int8]
    scales: Floats
    values: npt.NDArray[np.float64]

    @classmethod
    def of_codes(cls, codes: npt.NDArray[np.int8], factors: Floats) -> Quantized:
        """Of codes (T, K) and factors (T, NB)."""
        tokens, columns = codes.shape
        blocks = columns // BLOCK
        stride = -(-tokens // 4) * 4 + 4
        by_block = codes.reshape(tokens, blocks, BLOCK)
        made = cls(
            codes=zeros((blocks, stride, BLOCK), np.int8),
            scales=zeros((blocks, stride, SCALE_FIELDS), np.float32),
            values=(by_block * factors[:, :, None].astype(np.float64)).reshape(tokens, columns),
        )
        made.codes[:, :tokens] = by_block.transpose(1, 0, 2)
        made.scales[:, :tokens, InputScale.FACTOR] = factors.T
        halves = by_block.reshape(tokens, blocks, 2, LANES).sum(-1, dtype=np.int32)
        shares = factors[:, :, None] * halves.astype(np.float32)
        made.scales[:, :tokens, InputScale.HALF_SUMS :] = shares.transpose(1, 0, 2)
        made.scales[:, :tokens, InputScale.SUM] = shares.sum(-1).T
        return made

    @classmethod
    def of(cls, inputs: Floats) -> Quantized:
        """Of floats (T, K)."""
        blocks = inputs.reshape(len(inputs), -1, BLOCK)
        largest = np.abs(blocks).max(-1)
        factors = np.maximum(largest, np.float32(1e-20)) / np.float32(127.0)
        codes = np.rint(blocks / factors[..., None]).astype(np.int8)
        return cls.of_codes(codes.reshape(inputs.shape), factors)


def multiply(
    call: Call,
    matrix: PackedMatrix,
    inputs: Quantized | Floats,
    *,
    groups: tuple[int, int] | None = None,
    tokens: tuple[int, int] | None = None,
    job: Words | None = None,
) -> Floats:
    """``inputs @ weights.T``, shape (T, 16 * groups); NaN where nothing was written.

    ``job`` may say what else is asked for, and how far that came afterwards.
    """
    record = matrix_record(matrix)
    job = np.zeros(len(Job), np.int64) if job is None else job
    values = inputs.values if isinstance(inputs, Quantized) else inputs
    out = zeros((len(values), LANES * int(record[Matrix.GROUPS])), np.float32)
    out[...] = np.nan
    scratch = zeros((TOKEN_TILE, LANES), np.float32)
    job[Job.GROUP_BEGIN], job[Job.GROUP_END] = groups or (0, record[Matrix.GROUPS])
    job[Job.OUT], job[Job.OUT_STRIDE] = address(out), out.strides[0]
    job[Job.SCRATCH] = address(scratch)
    if isinstance(inputs, Quantized):
        job[Job.STRIDE] = inputs.codes.shape[1]
        job[Job.CODES], job[Job.SCALES] = address(inputs.codes), address(inputs.scales)
    else:
        job[Job.FLOATS], job[Job.FLOAT_STRIDE] = address(inputs), inputs.strides[0]
    begin, end = tokens or (0, len(values))
    for first in range(begin, end, TOKEN_TILE):
        job[Job.TOKEN_BEGIN], job[Job.TOKEN_END] = first, min(first + TOKEN_TILE, end)
        call(address(record), address(job))
    return out


def read_row(call: Call, matrix: PackedMatrix, row: int) -> Floats:
    """One row, shape (K,)."""
    record, pick = matrix_record(matrix), np.zeros(len(Pick), np.int64)
    out = zeros(matrix.columns, np.float32)
    pick[Pick.ROW], pick[Pick.OUT] = row, address(out)
    call(address(record), address(pick))
    return out


# -- the cache ----------------------------------------------------------------------------------


def store(call: Call, values: Floats, kind: npt.DTypeLike, step: int = 1) -> tuple[Any, float]:
    """Write numbers into places ``step`` items apart: those items, and the factor."""
    target, factor = zeros(len(values) * step, kind), zeros(1, np.float32)
    put = np.zeros(len(Put), np.int64)
    source = np.ascontiguousarray(values, np.float32)
    put[Put.SOURCE], put[Put.COUNT] = address(source), len(source)
    put[Put.TARGET], put[Put.STEP] = address(target), step * target.itemsize
    put[Put.FACTOR] = address(factor)
    call(address(put), 0)
    return target, float(factor[0])


@dataclass(frozen=True, slots=True)
class Query:
    """A query row and the positions that it sees, ``first`` to ``last``."""

    values: Floats
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class KVPages:
    """Keys (S, D) and values (S, E) of one head, in pages; the rest of the last page is garbage.

    Attributes:
        kind: what is stored.
        pages: one array of bytes each.
        keys: what is stored, as floats.
        values: likewise.
    """

    kind: KVType
    pages: Sequence[npt.NDArray[np.uint8]]
    keys: Floats
    values: Floats

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """D, E, E as stored, bytes of an item."""
        key, value = self.keys.shape[1], self.values.shape[1]
        return key, value, -(-value // LANES) * LANES, _ITEM[self.kind].itemsize

    @property
    def places(self) -> tuple[int, int, int, int]:
        """Byte offsets in a page of keys, values, factors of keys, factors of values."""
        return _places(*self.sizes)


_ITEM = {
    KVType.F32: np.dtype(np.float32),
    KVType.F16: np.dtype(np.float16),
    KVType.INT8: np.dtype(np.int8),
}
_KEYS_AT = 128  # as though another layer came before


def _places(key: int, _value: int, stored: int, size: int) -> tuple[int, int, int, int]:
    values = _KEYS_AT + PAGE_TOKENS * key * size
    factors = values + PAGE_TOKENS * stored * size
    return _KEYS_AT, values, factors, factors + 4 * PAGE_TOKENS


def kv_pages(kind: KVType, keys: Floats, values: Floats, *, garbage: float = np.nan) -> KVPages:
    """Store keys and values with NumPy as ``attention_ir`` describes it."""
    count, key = keys.shape
    value = values.shape[1]
    stored, item = -(-value // LANES) * LANES, _ITEM[kind]
    keys_at, values_at, key_factors, value_factors = _places(key, value, stored, item.itemsize)
    key_items, key_scales = _as_stored(kind, keys)
    value_items, value_scales = _as_stored(kind, values)
    pages = []
    for first in range(0, count, PAGE_TOKENS):
        here = slice(first, min(first + PAGE_TOKENS, count))
        n = here.stop - first
        page = aligned_bytes(value_factors + 4 * PAGE_TOKENS)
        block = np.full((PAGE_TOKENS, key), _garbage(kind, garbage), item)
        block[:n] = key_items[here]
        lanes = block.reshape(4, LANES, key).transpose(0, 2, 1)
        page[keys_at:values_at].view(item)[...] = lanes.reshape(-1)
        rows = np.full((PAGE_TOKENS, stored), _garbage(kind, garbage), item)
        rows[:n] = 0
        rows[:n, :value] = value_items[here]
        page[values_at:key_factors].view(item)[...] = rows.reshape(-1)
        for begin, scales in ((key_factors, key_scales), (value_factors, value_scales)):
            factors = page[begin : begin + 4 * PAGE_TOKENS].view(np.float32)
            factors[...] = garbage
            factors[:n] = scales[here]
        pages.append(page)
    return KVPages(
        kind=kind,
        pages=pages,
        keys=key_items.astype(np.float32) * key_scales[:, None],
        values=value_items.astype(np.float32) * value_scales[:, None],
    )


def _garbage(kind: KVType, garbage: float) -> float:
    return -128 if kind is KVType.INT8 else garbage


def _as_stored(kind: KVType, numbers: Floats) -> tuple[npt.NDArray[Any], Floats]:
    if kind is not KVType.INT8:
        return numbers.astype(_ITEM[kind]), np.ones(len(numbers), np.float32)
    scales = np.abs(numbers).max(axis=1) / np.float32(127.0)
    safe = np.where(scales > 0, scales, np.float32(1.0))
    return np.rint(numbers / safe[:, None]).astype(np.int8), scales


def attend(
    tier: IsaTier,
    cache_: KVPages,
    queries: Sequence[Query],
    *,
    cap: float = 0.0,
    pages: tuple[int, int] | None = None,
) -> list[Floats]:
    """Attention of up to four query rows at once; each result has shape (E,)."""
    key, value, stored, _ = cache_.sizes
    rows = len(queries)
    record = np.zeros(Attend.ROWS + MAX_QUERY_ROWS * len(QueryRow), np.int64)
    table = np.array([address(page) for page in cache_.pages], np.int64)
    scratch = zeros(MAX_QUERY_ROWS * (PAGE_TOKENS + stored), np.float32)
    scratch[...] = np.nan
    out = zeros((rows, value), np.float32)
    # A page that no row sees may be left out; by default none is.
    record[Attend.PAGE_BEGIN], record[Attend.PAGE_END] = pages or (0, len(cache_.pages))
    record[Attend.PAGES] = address(table)
    (
        record[Attend.KEYS],
        record[Attend.VALUES],
        record[Attend.KEY_FACTORS],
        record[Attend.VALUE_FACTORS],
    ) = cache_.places
    record[Attend.KEY_SIZE], record[Attend.VALUE_SIZE] = key, stored
    record[Attend.CAP] = float_bits(cap) if cap else 0
    record[Attend.SCRATCH] = address(scratch)
    kept = [np.ascontiguousarray(query.values, np.float32) for query in queries]
    for index, query in enumerate(queries):
        at = Attend.ROWS + index * len(QueryRow)
        record[at + QueryRow.QUERY] = address(kept[index])
        record[at + QueryRow.FIRST], record[at + QueryRow.LAST] = query.first, query.last
        record[at + QueryRow.OUT], record[at + QueryRow.OUT_SIZE] = address(out[index]), value
    attender(tier, cache_.kind, rows)(address(record), 0)
    return list(out)

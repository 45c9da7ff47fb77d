"""All functions that are compiled, by name: those of weight layouts, and those of every model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from numba.core import types

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.attention_ir import attention
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource
from smallmind_engine.kernels.numba_backend.float_matmul import float_product
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.kv_store_ir import store_row
from smallmind_engine.kernels.numba_backend.matmul import packed_product
from smallmind_engine.kernels.numba_backend.records import MAX_QUERY_ROWS
from smallmind_engine.kernels.numba_backend.row_decode import float_row, packed_row
from smallmind_engine.kernels.numba_backend.screening import screen
from smallmind_engine.kernels.numba_backend.step import STEP_TYPE
from smallmind_engine.kernels.numba_backend.sync_ir import spin_until
from smallmind_engine.kernels.numba_backend.walk import run_step
from smallmind_engine.kernels.packing import LAYOUTS, SPLIT_Q8_0, PackedLayout

STEP: Final = "step"
SPIN: Final = "spin"
SCREEN: Final = "screen"

_SPIN_SIGNATURE: Final = types.boolean(types.int64, types.int64)
_TWO_ADDRESSES: Final = types.void(types.int64, types.int64)


_STEP_SIGNATURE: Final = types.void(types.int64, STEP_TYPE)


def product_name(layout: PackedLayout) -> str:
    """Name of the function that multiplies with weights of a layout."""
    return f"product_{layout.name.lower()}"


def row_name(layout: PackedLayout) -> str:
    """Name of the function that reads a row of such weights back."""
    return f"row_{layout.name.lower()}"


def attention_name(kind: KVType, rows: int) -> str:
    """Name of the attention function for so many query rows."""
    return f"attention_{kind}_{rows}"


def store_name(kind: KVType) -> str:
    """Name of the function that writes into a cache."""
    return f"store_{kind}"


def kernel_sources(
    tier: IsaTier, layouts: Iterable[PackedLayout], kinds: Iterable[KVType]
) -> list[KernelSource]:
    """What a model with these weights and caches needs."""
    sources = []

    def add(name: str, function: Callable[[int, int], None]) -> None:
        sources.append(KernelSource(name=name, signature=_TWO_ADDRESSES, function=function))

    for layout in layouts:
        made = float_product(tier, layout.name) if layout.is_float else packed_product(tier, layout)
        add(product_name(layout), made)
        row = float_row(tier, layout.name) if layout.is_float else packed_row(tier, layout)
        add(row_name(layout), row)
        if layout is SPLIT_Q8_0:
            add(SCREEN, screen(tier, layout.zero))
    for kind in kinds:
        for rows in range(1, MAX_QUERY_ROWS + 1):
            add(attention_name(kind, rows), attention(tier, kind, rows))
        add(store_name(kind), store_row(tier, kind))
    sources.append(
        KernelSource(name=SPIN, signature=_SPIN_SIGNATURE, function=spin_until.py_func, kind="njit")
    )
    sources.append(
        KernelSource(name=STEP, signature=_STEP_SIGNATURE, function=run_step.py_func, kind="njit")
    )
    return sources


def all_layouts() -> tuple[PackedLayout, ...]:
    """Every layout that there are kernels for."""
    return tuple(LAYOUTS.values())

"""All functions that are compiled, and where each is made.

Numba is imported only by what makes a function: a model whose kernels are on disk does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource, is_kept
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.kernel_names import (
    LEAD,
    PICKED,
    SCREEN,
    SCREEN_SEVERAL,
    SERVE,
    STEP,
    attention_name,
    product_name,
    row_name,
    store_name,
)
from smallmind_engine.kernels.numba_backend.records import MAX_QUERY_ROWS
from smallmind_engine.kernels.packing import LAYOUTS, SPLIT_Q8_0, PackedLayout

_Made = Callable[..., Any]


def kernel_sources(
    tier: IsaTier, layouts: Iterable[PackedLayout], kinds: Iterable[KVType]
) -> list[KernelSource]:
    """What a model with these weights and caches needs."""
    sources = []
    for layout in layouts:
        sources.append(KernelSource(product_name(layout), partial(_product, tier, layout)))
        sources.append(KernelSource(row_name(layout), partial(_row, tier, layout)))
        if layout is SPLIT_Q8_0:
            sources.append(KernelSource(SCREEN, partial(_screen, tier)))
            sources.append(KernelSource(SCREEN_SEVERAL, partial(_screen_several, tier)))
            sources.append(KernelSource(PICKED, partial(_picked, tier, layout)))
    for kind in kinds:
        for rows in range(1, MAX_QUERY_ROWS + 1):
            make = partial(_attention, tier, kind, rows)
            sources.append(KernelSource(attention_name(kind, rows), make))
        sources.append(KernelSource(store_name(kind), partial(_store, tier, kind)))
    return [*sources, *team_sources(), _STEP]


def team_sources() -> list[KernelSource]:
    """What the leader of a team runs, and what its members do."""
    return [KernelSource(LEAD, _lead), KernelSource(SERVE, _serve, returns=True)]


def step_is_kept(tier: IsaTier) -> bool:
    """Whether the kernel that every model needs, and that takes longest, is on disk."""
    return is_kept(_STEP, tier=tier)


def all_layouts() -> tuple[PackedLayout, ...]:
    """Every layout that there are kernels for."""
    return tuple(LAYOUTS.values())


def _product(tier: IsaTier, layout: PackedLayout) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.float_matmul import float_product
    from smallmind_engine.kernels.numba_backend.emit.matmul import packed_product

    return float_product(tier, layout.name) if layout.is_float else packed_product(tier, layout)


def _row(tier: IsaTier, layout: PackedLayout) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.row_decode import float_row, packed_row

    return float_row(tier, layout.name) if layout.is_float else packed_row(tier, layout)


def _screen(tier: IsaTier) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.screening_ir import screen

    return screen(tier)


def _screen_several(tier: IsaTier) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.screening_ir import screen_several

    return screen_several(tier)


def _picked(tier: IsaTier, layout: PackedLayout) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.matmul import picked_product

    return picked_product(tier, layout)


def _attention(tier: IsaTier, kind: KVType, rows: int) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.attention_ir import attention

    return attention(tier, kind, rows)


def _store(tier: IsaTier, kind: KVType) -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.kv_store_ir import store_row

    return store_row(tier, kind)


def _lead() -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.sync_ir import lead

    made: _Made = lead.py_func
    return made


def _serve() -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.sync_ir import serve

    made: _Made = serve.py_func
    return made


def _step() -> _Made:
    from smallmind_engine.kernels.numba_backend.emit.walk import run_step_at

    return run_step_at


_STEP: Final = KernelSource(STEP, _step)

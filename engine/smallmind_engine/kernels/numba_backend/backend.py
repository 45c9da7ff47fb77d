"""The Numba backend: packs weights, has kernels compiled, and puts a runner together."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.gguf import QuantType
from smallmind_engine.kernels.backend import (
    PrepareRequest,
    ScratchRequest,
    WeightsMode,
    refuse_choice,
)
from smallmind_engine.kernels.ceilings import usable_cores
from smallmind_engine.kernels.compile_report import CompileProgress, CompileReport
from smallmind_engine.kernels.numba_backend.ceilings import machine_ceilings
from smallmind_engine.kernels.numba_backend.compile_apart import compile_apart
from smallmind_engine.kernels.numba_backend.compile_cache import CompiledKernel, compile_kernels
from smallmind_engine.kernels.numba_backend.footprint import (
    KERNELS_BYTES,
    largest_tensor,
    scratch_bytes,
)
from smallmind_engine.kernels.numba_backend.isa import choose_tier
from smallmind_engine.kernels.numba_backend.kernel_names import product_name
from smallmind_engine.kernels.numba_backend.kernel_table import (
    all_layouts,
    kernel_sources,
    step_is_kept,
)
from smallmind_engine.kernels.numba_backend.matrix_plan import (
    MatrixPlan,
    arena_bytes,
    plan_matrices,
)
from smallmind_engine.kernels.numba_backend.packed_files import default_directory, load_or_pack
from smallmind_engine.kernels.numba_backend.packed_model import build_tables
from smallmind_engine.kernels.numba_backend.pages import page_layout
from smallmind_engine.kernels.numba_backend.records import PAGE_TOKENS
from smallmind_engine.kernels.numba_backend.runner import NumbaRunner
from smallmind_engine.kernels.packing import SPLIT_Q8_0, PackedLayout, layout_of
from smallmind_engine.kernels.preloading import preload_compiler
from smallmind_engine.kernels.spec import TransformerSpec, WeightSource

DEFAULT_KV_TYPE: Final = KVType.F16


def require_packages() -> None:
    """See that the packages of the extra are there, without importing them.

    Raises:
        ModuleNotFoundError: one is not installed.
    """
    for package in ("llvmlite", "numba"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(package, name=package)


class NumbaBackend:
    """Keeps weights quantised; needs the extra ``fast``.

    Raises:
        ModuleNotFoundError: a package of the extra is not installed.
        ConfigError: ``SMALLMIND_ISA`` names instructions that this CPU does not have.
    """

    name: Final = "numba"
    modes: Final = (WeightsMode.RESIDENT,)
    kv_types: Final = (DEFAULT_KV_TYPE, KVType.F32, KVType.INT8)
    kernels_bytes: Final = KERNELS_BYTES

    def __init__(self) -> None:
        require_packages()
        self._tier = choose_tier()
        if not step_is_kept(self._tier):
            preload_compiler()
            import numba  # noqa: F401 - tells now whether it works

    def runs(self, spec: TransformerSpec) -> bool:
        """Decoders only; there are no kernels for attention in both directions."""
        return spec.causal

    def weight_bytes(self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode) -> int:
        """Memory that ``prepare`` would take for good; vectors are left out, being thousandths."""
        self._check_mode(mode)
        return arena_bytes(plan_matrices(spec, source))

    def kv_bytes_per_token(self, spec: TransformerSpec, kv_type: KVType | None) -> int:
        """Memory of one token in a KV cache over all layers."""
        return page_layout(spec, kv_type or DEFAULT_KV_TYPE).page_bytes // PAGE_TOKENS

    def scratch_bytes(self, spec: TransformerSpec, request: ScratchRequest) -> int:
        """Memory that steps take at most for what they compute in between."""
        return scratch_bytes(spec, request)

    def largest_tensor(
        self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode
    ) -> tuple[str, int]:
        """Name and bytes of the largest tensor that it holds in one piece."""
        self._check_mode(mode)
        return largest_tensor(plan_matrices(spec, source))

    def prepare(
        self, spec: TransformerSpec, source: WeightSource, request: PrepareRequest
    ) -> NumbaRunner:
        """Compile or fetch kernels and pack the weights; see ``Backend.prepare``."""
        self._check_mode(request.mode)
        kv_type = request.kv_type or DEFAULT_KV_TYPE
        plans = plan_matrices(spec, source)
        _tell_conversions(plans, request)
        layouts = tuple(dict.fromkeys(plan.layout for plan in plans))
        tell = request.on_progress
        kernels, report = self._kernels(layouts, kv_type, request)
        if request.on_kernels is not None:
            request.on_kernels(report, self._tier)
        threads = request.threads or usable_cores()
        if request.on_ceilings is not None:
            request.on_ceilings(machine_ceilings(self._tier, threads))
        arena, origin = load_or_pack(
            plans,
            source,
            request.fingerprint,
            default_directory() if request.keep_packed else None,
            request.limit,
            None if tell is None else partial(tell, "weights"),
        )
        if origin.not_saved is not None and request.on_unsaved is not None:
            request.on_unsaved(origin.not_saved)
        addresses = {layout.name: kernels[product_name(layout)].address for layout in layouts}
        model = build_tables(spec, source, plans, arena, addresses)
        return NumbaRunner(spec, source, model, kernels, kv_type, threads)

    def _kernels(
        self, layouts: tuple[PackedLayout, ...], kv_type: KVType, request: PrepareRequest
    ) -> tuple[Mapping[str, CompiledKernel], CompileReport]:
        tell = request.on_progress
        progress: CompileProgress | None = None
        if tell is not None:
            progress = lambda _, done, all_: tell("kernels", done, all_)  # noqa: E731 - an argument
        sources = kernel_sources(self._tier, layouts, (kv_type,))
        begin = time.perf_counter()
        apart = compile_apart(
            sources,
            tier=self._tier,
            layouts=layouts,
            kinds=(kv_type,),
            limit=request.limit,
            on_progress=progress,
        )
        kernels, report = compile_kernels(
            sources, tier=self._tier, limit=request.limit, on_progress=progress
        )
        return kernels, replace(
            report,
            compiled=report.compiled + apart,
            cached=report.cached - apart,
            loaded=max(0, report.loaded - apart),
            seconds=time.perf_counter() - begin,
        )

    def _check_mode(self, mode: WeightsMode) -> None:
        if mode not in self.modes:
            raise refuse_choice("weights", mode, self.name, self.modes)


def _tell_conversions(plans: Iterable[MatrixPlan], request: PrepareRequest) -> None:
    if request.on_converted is None:
        return
    for plan in plans:
        if plan.layout.source_type != plan.qtype.name:
            request.on_converted(plan.tensor, plan.qtype.name, plan.layout.source_type)


def prepare_kernels(
    quant_types: Sequence[str] | None = None, on_progress: CompileProgress | None = None
) -> CompileReport:
    """Compile kernels ahead of the first load, for all types of KV caches.

    Args:
        quant_types: names of the types that weights have, as in ``QuantType``; None for all.
        on_progress: told of what has to be compiled; what it raises stops the work.

    Raises:
        ModuleNotFoundError: a package of the extra is not installed.
        ConfigError: ``SMALLMIND_ISA`` names instructions that this CPU does not have.
    """
    layouts: tuple[PackedLayout, ...] = all_layouts()
    if quant_types is not None:
        wanted = (layout_of(QuantType[name], 256) for name in quant_types)
        layouts = (*dict.fromkeys(wanted), SPLIT_Q8_0)
    tier = choose_tier()
    sources = kernel_sources(tier, layouts, tuple(KVType))
    _, report = compile_kernels(sources, tier=tier, on_progress=on_progress)
    return report

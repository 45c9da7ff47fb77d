"""What loading a model will take, found out from its header alone, and how to make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    AUTO,
    ScratchRequest,
    TransformerSpec,
    WeightsMode,
    get_backend,
)
from smallmind_engine.kernels.backend import Backend
from smallmind_engine.kernels.ceilings import usable_cores
from smallmind_engine.memory import (
    MemoryBudgetMode,
    MemoryDemand,
    MemoryLimit,
    MemoryPlan,
    MemoryRequest,
    choose_plan,
    system_limit,
)
from smallmind_engine.model.load_options import LoadOptions
from smallmind_engine.model.weight_source import GgufWeights
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers import tokenizer_bytes

_CLOSEST_KV_TYPE: Final = KVType.INT8
"""What a best-effort budget stores in KV caches when memory is short."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """How a model will run, and what that takes.

    Attributes:
        backend: what will compute.
        mode: where the weights will live.
        kv_type: what KV caches will store.
        plan: the memory.
    """

    backend: Backend
    mode: WeightsMode
    kv_type: KVType
    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class _Way:
    """A way of running a model."""

    backend: Backend
    mode: WeightsMode
    kv_type: KVType


def plan_run(
    file: GgufFile,
    spec: TransformerSpec,
    options: LoadOptions,
    backend: Backend,
    *,
    mode: MemoryBudgetMode = MemoryBudgetMode.NONE,
    taken_bytes: int = 0,
) -> PlannedRun:
    """Choose where weights and KV caches will live; nothing is allocated.

    Args:
        file: of the model.
        spec: of the model.
        options: how it is to be loaded.
        backend: that was chosen; NumPy's takes its place where it does not run such models.
        mode: of the budget.
        taken_bytes: of the budget, before.

    Raises:
        MemoryBudgetError: the budget does not suffice.
        ConfigError: the backend has no such mode, or the context length cannot be.
        ModelFileError: a tensor is missing or has the wrong shape.
    """
    ways = tuple(_ways(options, able_backend(backend, spec), spec))
    source = GgufWeights(file)
    tokenizer = tokenizer_bytes(file.metadata)
    by_weights = {(way.backend.name, way.mode): way for way in ways}
    sizes = {key: _weight_sizes(way, spec, source) for key, way in by_weights.items()}
    demands = tuple(
        _demand(way, spec, sizes[way.backend.name, way.mode], options, tokenizer) for way in ways
    )
    plan = choose_plan(
        MemoryRequest(
            ways=demands,
            context_length=usable_context(options, spec),
            context_asked=options.context_length is not None,
            prefix_asked=options.max_prefix_tokens is not None,
            mode=mode,
            limit=options.memory_limit or system_limit(),
            machine_bytes=_machine_bytes(),
            taken_bytes=taken_bytes,
            max_tensor_bytes=options.max_tensor_bytes,
        )
    )
    chosen = next(
        way for way, demand in zip(ways, demands, strict=True) if _same_way(demand, plan.demand)
    )
    return PlannedRun(chosen.backend, chosen.mode, chosen.kv_type, plan)


def able_backend(backend: Backend, spec: TransformerSpec) -> Backend:
    """The backend itself, or NumPy's where it does not run such models."""
    return backend if backend.runs(spec) else get_backend("numpy")


def usable_context(options: LoadOptions, spec: TransformerSpec) -> int:
    """Positions that may be used.

    Raises:
        ConfigError: the model cannot have so many.
    """
    wanted = options.context_length
    if wanted is None:
        return spec.context_length
    if wanted < 1 or (spec.learned_positions and wanted > spec.context_length):
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"context_length is {wanted}; this model takes 1 to {spec.context_length}",
            option="context_length",
            value=wanted,
        )
    return wanted


def _ways(options: LoadOptions, backend: Backend, spec: TransformerSpec) -> Iterator[_Way]:
    """The ways that the options leave open, the best first.

    ``auto`` takes the backend that has what was asked for: only NumPy's can keep weights on disk.
    """
    modes: tuple[WeightsMode, ...] = (WeightsMode.RESIDENT, WeightsMode.PER_LAYER)
    if options.weights is not None:
        modes = (options.weights,)
    for place, mode in enumerate(modes):
        able = backend
        if mode not in backend.modes and options.backend == AUTO:
            able = get_backend("numpy")
        if place and mode not in able.modes:
            continue  # a way out that there is not; the first one is an error when it is not there
        for kv_type in _kv_types(options, able, spec):
            if place and kv_type not in able.kv_types:
                continue
            yield _Way(able, mode, kv_type)


def _kv_types(options: LoadOptions, backend: Backend, spec: TransformerSpec) -> tuple[KVType, ...]:
    if options.kv_cache_type is not None and spec.causal:  # encoders have no cache
        return (options.kv_cache_type,)
    first, *others = backend.kv_types
    return (first, *(kind for kind in others if kind is _CLOSEST_KV_TYPE))


@dataclass(frozen=True, slots=True)
class _WeightSizes:
    """Bytes of all weights, and name and bytes of the largest tensor."""

    n_bytes: int
    largest: str
    largest_bytes: int


def _weight_sizes(way: _Way, spec: TransformerSpec, source: GgufWeights) -> _WeightSizes:
    backend, mode = way.backend, way.mode
    return _WeightSizes(
        backend.weight_bytes(spec, source, mode), *backend.largest_tensor(spec, source, mode)
    )


def _demand(
    way: _Way, spec: TransformerSpec, sizes: _WeightSizes, options: LoadOptions, tokenizer: int
) -> MemoryDemand:
    backend = way.backend
    kv_bytes = backend.kv_bytes_per_token(spec, way.kv_type)
    context = usable_context(options, spec)
    return MemoryDemand(
        backend=backend.name,
        weights=way.mode.value,
        kv_cache_type=way.kv_type.value,
        weight_bytes=sizes.n_bytes,
        tokenizer_bytes=tokenizer,
        scratch_bytes=backend.scratch_bytes(
            spec,
            ScratchRequest(
                mode=way.mode,
                context_length=context,
                sequences=options.sequences,
                threads=options.threads or usable_cores(),
            ),
        ),
        kernels_bytes=backend.kernels_bytes,
        prefix_store_bytes=options.prefix_tokens(context, kv_bytes) * kv_bytes,
        kv_bytes_per_token=kv_bytes,
        largest_tensor=sizes.largest,
        largest_tensor_bytes=sizes.largest_bytes,
    )


def _same_way(one: MemoryDemand, other: MemoryDemand) -> bool:
    return (one.backend, one.weights, one.kv_cache_type) == (
        other.backend,
        other.weights,
        other.kv_cache_type,
    )


def _machine_bytes() -> int | None:
    limit: MemoryLimit | None = system_limit()
    return None if limit is None else limit.budget_bytes

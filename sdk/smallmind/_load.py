"""Loading a model: from a name or path to an engine with its exporters attached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from smallmind._engine import Engine
from smallmind._exporters import create_exporter, requested
from smallmind._merged_options import merged_options
from smallmind._registry import PullProgress, resolve
from smallmind_engine.cache import KVType
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels import WeightsMode
from smallmind_engine.memory import (
    BudgetEnforcer,
    MemoryBudgetMode,
    MemoryRung,
    effective_limit,
)
from smallmind_engine.model import LoadOptions, load_model
from smallmind_engine.runtime import Detail, EngineCore, EngineOptions
from smallmind_engine.telemetry import (
    EventBus,
    Exporter,
    HealthAware,
    LoggerExporter,
    MetricsExporter,
    RuntimeLogger,
    RuntimeMetrics,
    correlated,
    new_correlation,
)
from smallmind_engine.tokenizers import TokenizerMode


class EngineKwargs(TypedDict, total=False):
    """The fields of ``EngineOptions`` as keyword arguments; see there."""

    backend: str
    weights: WeightsMode | str | None
    kv_cache_type: KVType | str | None
    threads: int | None
    keep_packed_weights: bool
    context_length: int | None
    tokenizer_mode: TokenizerMode | str
    strict_tokenizer: bool
    max_memory_bytes: int | None
    max_tensor_bytes: int | None
    memory_budget_mode: MemoryBudgetMode | str
    max_concurrent_requests: int
    max_queue_depth: int
    max_batch_size: int
    prefill_budget: int | None
    prefix_cache: bool
    max_prefix_tokens: int | None
    max_kv_tokens: int | None
    capture_content: bool
    detail: Detail | str
    quality_signals: bool
    telemetry_budget: float | None


def load(
    path_or_name: str | Path,
    *,
    exporters: Iterable[Exporter | str] | None = None,
    logger: RuntimeLogger | None = None,
    metrics: RuntimeMetrics | None = None,
    options: EngineOptions | None = None,
    name: str | None = None,
    cancellation: CancellationToken | None = None,
    timeout: float | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    **kwargs: Unpack[EngineKwargs],
) -> Engine:
    """Load a model.

    Args:
        path_or_name: a GGUF file, or a name of the registry (fetched once, then cached).
        exporters: names of installed exporters (made here, closed with the engine) or
            exporters of your own (left open); None for those that the environment variable
            ``SMALLMIND_EXPORTERS`` names, separated by commas.
        logger: receives the log events.
        metrics: receives the life of the model and of each request.
        options: see ``EngineOptions``.
        name: of the model in metrics and log lines; the file's or registry's name when None.
        cancellation: stops the loading.
        timeout: seconds until the loading is stopped.
        traceparent: W3C trace context of the caller.
        tracestate: what belongs to it, as in the W3C header of that name.
        on_progress: told of the phase, the bytes done and the bytes in all.
        kwargs: fields of ``EngineOptions``, one by one; they win over ``options``.

    Raises:
        RegistryError: the name is unknown, or the download failed.
        ModelFileError: the file is damaged or incomplete.
        UnsupportedModelError: it is sound, but does not run here.
        MemoryBudgetError: the weights do not fit the budget.
        ExporterError: there is no exporter of that name.
        MissingExtraError: an exporter needs a package that is not installed.
        OperationCancelledError: cancelled, or out of time.
    """
    chosen = merged_options(EngineOptions, options, kwargs)
    limit = WorkLimit.within(timeout, cancellation)
    bus = EventBus()
    owned: dict[str, Exporter] = {}
    attached: dict[str, Exporter] = {}
    try:
        for exporter in requested(exporters):
            if isinstance(exporter, str):
                owned[exporter] = create_exporter(exporter)
            else:
                attached[exporter.name] = exporter
        helpers: list[Exporter] = []
        if logger is not None:
            helpers.append(LoggerExporter(logger))
        if metrics is not None:
            helpers.append(MetricsExporter(metrics))
        for each in (*owned.values(), *attached.values(), *helpers):
            bus.subscribe(each)
            if isinstance(each, HealthAware):
                each.bind_health(bus.health)
        ids = new_correlation(traceparent=traceparent, tracestate=tracestate)
        with correlated(ids) as correlation:
            path = resolve(path_or_name, on_progress=_pull_progress(on_progress), limit=limit)
            known = name or _model_name(path_or_name, path)
            how = load_options(chosen)
            budget = BudgetEnforcer(
                _budget_bytes(chosen, how), chosen.memory_budget_mode, known, bus
            )
            model = load_model(
                path,
                how,
                budget,
                bus.emitter(correlation),
                name=known,
                limit=limit,
                on_progress=on_progress,
            )
        if any(step.rung is MemoryRung.NO_PREFIX_STORE for step in model.memory_plan.steps):
            chosen = replace(chosen, max_prefix_tokens=0)
        return Engine(EngineCore(model, chosen, budget, bus), owned, attached)
    except BaseException:
        bus.close()
        for mine in owned.values():
            mine.close()
        raise


def load_options(options: EngineOptions) -> LoadOptions:
    """The part of an engine's options that loading needs, with the limit that holds here."""
    return LoadOptions(
        backend=options.backend,
        weights=options.weights,
        kv_cache_type=options.kv_cache_type,
        threads=options.threads,
        keep_packed_weights=options.keep_packed_weights,
        context_length=options.context_length,
        tokenizer_mode=options.tokenizer_mode,
        strict_tokenizer=options.strict_tokenizer,
        measure_machine=options.detail is Detail.KERNEL,
        memory_limit=effective_limit(options.max_memory_bytes),
        max_tensor_bytes=options.max_tensor_bytes,
        sequences=options.max_batch_size,
        prefix_cache=options.prefix_cache,
        max_prefix_tokens=options.max_prefix_tokens,
        max_kv_tokens=options.max_kv_tokens,
    )


def _budget_bytes(options: EngineOptions, how: LoadOptions) -> int | None:
    """What the budget enforces: the user's limit, or the system's when a mode asks for one."""
    if options.memory_budget_mode is MemoryBudgetMode.NONE or how.memory_limit is None:
        return options.max_memory_bytes
    return how.memory_limit.budget_bytes


def _model_name(path_or_name: str | Path, path: Path) -> str:
    return path.stem if Path(path_or_name).exists() else str(path_or_name)


def _pull_progress(
    on_progress: Callable[[str, int, int], None] | None,
) -> Callable[[PullProgress], None] | None:
    if on_progress is None:
        return None

    def tell(progress: PullProgress) -> None:
        on_progress(progress.stage, progress.done_bytes, progress.total_bytes)

    return tell

"""Loading: opens the file, builds the tokenizer, prepares the weights, and tells how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf import GgufFile, QuantType
from smallmind_engine.kernels import (
    AUTO,
    Ceilings,
    CompileReport,
    ModelRunner,
    PrepareRequest,
    TransformerSpec,
    WeightsMode,
    choose_backend,
    get_backend,
)
from smallmind_engine.kernels.backend import Backend
from smallmind_engine.memory import BudgetEnforcer, MemoryCategory, available_bytes
from smallmind_engine.model.architectures import transformer_spec
from smallmind_engine.model.load_telling import (
    PreparationTeller,
    tell_degraded,
    tell_tokenizer,
)
from smallmind_engine.model.weight_source import GgufWeights
from smallmind_engine.telemetry import (
    DegradeReason,
    Emitter,
    EventKind,
    ModelLoadEnded,
    ModelLoadProgress,
    ModelLoadStarted,
    RequestStatus,
    SmallMindError,
    now_ns,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory, TokenizerMode

LoadProgress = Callable[[str, int, int], None]
"""Told of the phase, the bytes done and the bytes in all."""

_HEADROOM: Final = 0.9
"""Share of the free memory that weights may take when nobody set a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load.

    Attributes:
        backend: name of a backend, or ``auto``.
        weights: where weights live; None for whatever fits.
        kv_cache_type: what KV caches store; None for the backend's own choice.
        threads: that compute at once; None for all that there are.
        keep_packed_weights: keep packed weights on disk for the next load.
        context_length: positions that will be used; None for all the model was trained for.
        tokenizer_mode: see ``TokenizerMode``.
        strict_tokenizer: refuse rather than fall back.
        measure_machine: tell what the machine can do at most, which takes a moment.
    """

    backend: str = "auto"
    weights: WeightsMode | None = None
    kv_cache_type: KVType | None = None
    threads: int | None = None
    keep_packed_weights: bool = False
    context_length: int | None = None
    tokenizer_mode: TokenizerMode = TokenizerMode.AUTO
    strict_tokenizer: bool = False
    measure_machine: bool = False


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run, and what is known of it.

    Attributes:
        name: short name for metrics and log lines.
        parameters: number of weights.
        quantization: the type that most weights have.
        fingerprint: identifies the content of the file.
        chat_template: Jinja source; None when the file has none.
        load_phases: seconds by phase of the loading.
        load_s: seconds of the whole.
    """

    name: str
    path: Path
    file: GgufFile
    spec: TransformerSpec
    tokenizer: Tokenizer
    runner: ModelRunner
    context_length: int
    parameters: int
    quantization: str
    fingerprint: str
    chat_template: str | None
    load_phases: tuple[tuple[str, float], ...]
    load_s: float

    def close(self) -> None:
        """Let go of the weights and the file."""
        self.runner.close()
        self.file.close()


class _Phases:
    """Measures the phases of loading, and passes progress on."""

    def __init__(self, model: str, emitter: Emitter, on_progress: LoadProgress | None) -> None:
        self._model = model
        self._emitter = emitter
        self._on_progress = on_progress
        self._begin_ns = self._mark_ns = now_ns()
        self._done: list[tuple[str, float]] = []

    def progress(self, phase: str) -> Callable[[int, int], None] | None:
        """A callback for the progress of ``phase``; None when nobody listens."""
        tell = self.any_progress()
        return None if tell is None else partial(tell, phase)

    def any_progress(self) -> LoadProgress | None:
        """A callback for the progress of any phase; None when nobody listens."""
        wanted = self._emitter.wants & EventKind.MODEL_LOAD_PROGRESS
        if not wanted:
            return self._on_progress

        def tell(phase: str, done: int, total: int) -> None:
            if self._on_progress is not None:
                self._on_progress(phase, done, total)
            self._emitter.publish(
                ModelLoadProgress(
                    *self._emitter.header(), model=self._model, phase=phase, done=done, total=total
                )
            )

        return tell

    def ended(self, phase: str) -> None:
        """The time since the last call went into ``phase``."""
        now = now_ns()
        self._done.append((phase, (now - self._mark_ns) / 1e9))
        self._mark_ns = now

    @property
    def seconds(self) -> tuple[tuple[str, float], ...]:
        """Seconds by phase."""
        return tuple(self._done)

    @property
    def total_s(self) -> float:
        """Seconds since the beginning."""
        return (now_ns() - self._begin_ns) / 1e9


def load_model(
    path: Path,
    options: LoadOptions,
    budget: BudgetEnforcer,
    emitter: Emitter,
    *,
    name: str | None = None,
    limit: WorkLimit = NO_LIMIT,
    on_progress: LoadProgress | None = None,
) -> LoadedModel:
    """Load a GGUF file.

    Args:
        path: of the file, or of any part of a split one.
        options: how.
        budget: asked before the weights are taken.
        emitter: publishes start, progress, diagnosis and end.
        name: for metrics and log lines; the file's name without its ending when None.
        limit: stops the loading.
        on_progress: told of phases and bytes.

    Raises:
        ModelFileError: the file is damaged or incomplete.
        UnsupportedModelError: it is sound, but does not run here.
        MemoryBudgetError: the weights do not fit the budget.
        OperationCancelledError: ``limit`` was exceeded.
    """
    model = name or path.stem
    phases = _Phases(model, emitter, on_progress)
    if emitter.wants & EventKind.MODEL_LOAD_STARTED:
        size = path.stat().st_size if path.is_file() else 0
        emitter.publish(ModelLoadStarted(*emitter.header(), model=model, file_bytes=size))
    try:
        loaded = _load(path, model, options, budget, emitter, limit, phases)
    except SmallMindError as error:
        _tell_end(emitter, model, phases, reason=error.reason)
        raise
    _tell_end(emitter, model, phases, loaded=loaded)
    return loaded


def _load(
    path: Path,
    model: str,
    options: LoadOptions,
    budget: BudgetEnforcer,
    emitter: Emitter,
    limit: WorkLimit,
    phases: _Phases,
) -> LoadedModel:
    file = GgufFile.open(path, limit=limit, on_progress=phases.progress("read"))
    try:
        phases.ended("read")
        source = GgufWeights(file)
        spec = transformer_spec(file.metadata, source, options.context_length)
        context = _context_length(options, spec)
        tokenizer = TokenizerFactory.create(
            file.metadata,
            mode=options.tokenizer_mode,
            strict=options.strict_tokenizer,
            expected_vocab_size=spec.vocab_size,
            limit=limit,
        )
        tell_tokenizer(emitter, model, tokenizer)
        phases.ended("tokenizer")
        backend, mode = _choose(options, spec, source, budget, emitter)
        wanted = backend.weight_bytes(spec, source, mode)
        granted = budget.reserve(
            MemoryCategory.WEIGHTS, wanted, emitter, hint="use weights='per_layer'"
        )
        if mode is WeightsMode.PER_LAYER and options.weights is None:
            tell_degraded(
                emitter,
                "model",
                DegradeReason.WEIGHTS_PER_LAYER,
                f"resident weights do not fit; {wanted} bytes are used in turn",
            )
        teller = PreparationTeller(emitter, model, backend.name)
        fingerprint = file.fingerprint()

        def kernels_ready(report: CompileReport, isa: str) -> None:
            phases.ended("kernels")
            teller.kernels_ready(report, isa)

        def machine_measured(ceilings: Ceilings) -> None:
            phases.ended("ceilings")
            teller.machine_measured(ceilings)

        measured = options.measure_machine and emitter.wants & EventKind.MACHINE_MEASURED
        try:
            runner = backend.prepare(
                spec,
                source,
                PrepareRequest(
                    mode=mode,
                    kv_type=options.kv_cache_type,
                    threads=options.threads,
                    fingerprint=fingerprint,
                    keep_packed=options.keep_packed_weights,
                    limit=limit,
                    on_progress=phases.any_progress(),
                    on_kernels=kernels_ready,
                    on_unsaved=teller.unsaved,
                    on_converted=teller.converted,
                    on_ceilings=machine_measured if measured else None,
                ),
            )
        except BaseException:
            budget.release(MemoryCategory.WEIGHTS, granted)
            raise
        teller.close()
        phases.ended("weights")
        template = file.metadata.get("tokenizer.chat_template")
        return LoadedModel(
            name=model,
            path=path,
            file=file,
            spec=spec,
            tokenizer=tokenizer,
            runner=runner,
            context_length=context,
            parameters=sum(tensor.n_elements for tensor in file.tensors.values()),
            quantization=main_quantization(file).name,
            fingerprint=fingerprint,
            chat_template=template if isinstance(template, str) else None,
            load_phases=phases.seconds,
            load_s=phases.total_s,
        )
    except BaseException:
        file.close()
        raise


def main_quantization(file: GgufFile) -> QuantType:
    """The type that most weights of the layers have."""
    counts: dict[QuantType, int] = {}
    for name, tensor in file.tensors.items():
        weight = tensor.n_elements if name.startswith("blk.") else 0
        counts[tensor.qtype] = counts.get(tensor.qtype, 0) + weight
    return max(counts, key=lambda qtype: counts[qtype], default=QuantType.F32)


def _context_length(options: LoadOptions, spec: TransformerSpec) -> int:
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


def _choose(
    options: LoadOptions,
    spec: TransformerSpec,
    source: GgufWeights,
    budget: BudgetEnforcer,
    emitter: Emitter,
) -> tuple[Backend, WeightsMode]:
    """The backend, and where its weights will live: resident when that fits.

    ``auto`` takes the backend that has what was asked for: only NumPy's can keep weights on disk.
    """
    choice = choose_backend(options.backend)
    backend, fallback = choice.backend, choice.fallback
    if not backend.runs(spec):
        fallback = f"the backend {backend.name!r} does not run encoders such as this"
        backend = get_backend("numpy")
    if fallback is not None:
        tell_degraded(emitter, "kernels", DegradeReason.BACKEND_FALLBACK, fallback)
    wanted = options.weights
    if wanted is None:
        free = _free_bytes(budget)
        fits = free is None or backend.weight_bytes(spec, source, WeightsMode.RESIDENT) <= free
        wanted = WeightsMode.RESIDENT if fits else WeightsMode.PER_LAYER
        if wanted not in backend.modes and options.backend != AUTO:
            wanted = backend.modes[0]
    if wanted not in backend.modes and options.backend == AUTO:
        backend = get_backend("numpy")
    return backend, wanted


def _free_bytes(budget: BudgetEnforcer) -> int | None:
    """What the budget leaves, or else most of the free memory of the machine."""
    free = budget.free_bytes
    if free is not None:
        return free
    available = available_bytes()
    return None if available is None else int(available * _HEADROOM)


def _tell_end(
    emitter: Emitter,
    model: str,
    phases: _Phases,
    *,
    loaded: LoadedModel | None = None,
    reason: ReasonCode | None = None,
) -> None:
    if not emitter.wants & EventKind.MODEL_LOAD_ENDED:
        return
    if loaded is None:
        cancelled = reason in {ReasonCode.CANCELLED_BY_CALLER, ReasonCode.CANCELLED_BY_TIMEOUT}
        emitter.publish(
            ModelLoadEnded(
                *emitter.header(),
                model=model,
                status=RequestStatus.CANCELLED if cancelled else RequestStatus.FAILED,
                duration_s=phases.total_s,
                phases=phases.seconds,
                reason=reason,
            )
        )
        return
    emitter.publish(
        ModelLoadEnded(
            *emitter.header(),
            model=model,
            status=RequestStatus.COMPLETED,
            duration_s=loaded.load_s,
            architecture=loaded.spec.architecture,
            quantization=loaded.quantization,
            backend=loaded.runner.backend,
            parameters=loaded.parameters,
            weight_bytes=loaded.runner.weight_bytes,
            context_length=loaded.context_length,
            fingerprint=loaded.fingerprint,
            phases=loaded.load_phases,
        )
    )

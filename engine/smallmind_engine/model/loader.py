"""Loading: opens the file, builds the tokenizer, prepares the weights, and tells how it went."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from smallmind_engine.control import COLLECTOR_PAUSE, NO_LIMIT, WorkLimit, run_or_leave
from smallmind_engine.gguf import GgufFile, QuantType
from smallmind_engine.kernels import (
    Ceilings,
    CompileReport,
    ModelRunner,
    PrepareRequest,
    TransformerSpec,
    choose_backend,
)
from smallmind_engine.memory import BudgetEnforcer, MemoryCategory, MemoryPlan, Reservation
from smallmind_engine.model.architectures import transformer_spec
from smallmind_engine.model.load_options import LoadOptions
from smallmind_engine.model.load_phases import LoadPhases, LoadProgress
from smallmind_engine.model.load_telling import (
    PreparationTeller,
    tell_degraded,
    tell_plan,
    tell_refused,
    tell_tokenizer,
)
from smallmind_engine.model.memory_planning import PlannedRun, plan_run, usable_context
from smallmind_engine.model.weight_source import GgufWeights
from smallmind_engine.telemetry import (
    DegradeReason,
    Emitter,
    EventKind,
    ModelLoadEnded,
    ModelLoadStarted,
    RequestStatus,
    SmallMindError,
)
from smallmind_engine.telemetry.errors import MemoryBudgetError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory

_TAKEN_LATER: Final = frozenset({MemoryCategory.KV_CACHE, MemoryCategory.PREFIX_STORE})
"""What requests reserve when they need it."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run, and what is known of it.

    Attributes:
        name: short name for metrics and log lines.
        parameters: number of weights.
        quantization: the type that most weights have.
        fingerprint: identifies the content of the file.
        chat_template: Jinja source; None when the file has none.
        memory_plan: what was planned to be taken, and what was given up for it.
        reservation: what is reserved in the budget for the model itself.
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
    memory_plan: MemoryPlan
    reservation: Reservation
    load_phases: tuple[tuple[str, float], ...]
    load_s: float

    def close(self) -> None:
        """Let go of the weights and the file."""
        self.runner.close()
        self.file.close()
        self.reservation.close()


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
    phases = LoadPhases(model, emitter, on_progress)
    if emitter.wants & EventKind.MODEL_LOAD_STARTED:
        size = path.stat().st_size if path.is_file() else 0
        emitter.publish(ModelLoadStarted(*emitter.header(), model=model, file_bytes=size))
    try:
        loaded = _load(path, model, options, budget, emitter, limit, phases)
    except SmallMindError as error:
        _tell_end(emitter, model, phases, reason=error.reason)
        raise
    budget.tell_usage(emitter.correlation, everything=True)
    _tell_end(emitter, model, phases, loaded=loaded)
    return loaded


def _load(
    path: Path,
    model: str,
    options: LoadOptions,
    budget: BudgetEnforcer,
    emitter: Emitter,
    limit: WorkLimit,
    phases: LoadPhases,
) -> LoadedModel:
    with COLLECTOR_PAUSE:
        file = GgufFile.open(path, limit=limit, on_progress=phases.progress("read"))
    held = Reservation(budget)
    try:
        with COLLECTOR_PAUSE:
            source = GgufWeights(file)
            spec = transformer_spec(file.metadata, source, options.context_length)
            usable_context(options, spec)
            phases.ended("read")
            run = _planned(file, spec, options, budget, emitter, limit, model)
            shares = (share for share in run.plan.shares if share[0] not in _TAKEN_LATER)
            held.take(shares, emitter)
            phases.ended("plan")
            tokenizer = TokenizerFactory.create(
                file.metadata,
                mode=options.tokenizer_mode,
                strict=options.strict_tokenizer,
                expected_vocab_size=spec.vocab_size,
                limit=limit,
            )
            tell_tokenizer(emitter, model, tokenizer)
            phases.ended("tokenizer")
        fingerprint = file.fingerprint(limit=limit)
        runner = _prepared(run, spec, source, options, fingerprint, emitter, model, limit, phases)
        file.release_all()
        template = file.metadata.get("tokenizer.chat_template")
        return LoadedModel(
            name=model,
            path=path,
            file=file,
            spec=spec,
            tokenizer=tokenizer,
            runner=runner,
            context_length=run.plan.context_length,
            parameters=sum(tensor.n_elements for tensor in file.tensors.values()),
            quantization=main_quantization(file).name,
            fingerprint=fingerprint,
            chat_template=template if isinstance(template, str) else None,
            memory_plan=run.plan,
            reservation=held,
            load_phases=phases.seconds,
            load_s=phases.total_s,
        )
    except BaseException:
        held.close()
        file.close()
        raise


def _planned(
    file: GgufFile,
    spec: TransformerSpec,
    options: LoadOptions,
    budget: BudgetEnforcer,
    emitter: Emitter,
    limit: WorkLimit,
    model: str,
) -> PlannedRun:
    """Choose the backend and how it will run; the first import of a compiler takes seconds."""
    choice = run_or_leave(partial(choose_backend, options.backend), limit, "finding a backend")
    fallback = choice.fallback
    if not choice.backend.runs(spec):
        fallback = f"the backend {choice.backend.name!r} does not run encoders such as this"
    if fallback is not None:
        tell_degraded(emitter, "kernels", DegradeReason.BACKEND_FALLBACK, fallback)
    try:
        run = plan_run(
            file,
            spec,
            options,
            choice.backend,
            mode=budget.mode,
            taken_bytes=budget.taken_bytes,
        )
    except MemoryBudgetError as error:
        tell_refused(emitter, model, error)
        raise
    tell_plan(emitter, model, run.plan)
    limit.check("planning the memory")
    return run


def _prepared(
    run: PlannedRun,
    spec: TransformerSpec,
    source: GgufWeights,
    options: LoadOptions,
    fingerprint: str,
    emitter: Emitter,
    model: str,
    limit: WorkLimit,
    phases: LoadPhases,
) -> ModelRunner:
    """Have the backend bring kernels and weights into its form."""
    teller = PreparationTeller(emitter, model, run.backend.name)

    def kernels_ready(report: CompileReport, isa: str) -> None:
        phases.ended("kernels")
        teller.kernels_ready(report, isa)

    def machine_measured(ceilings: Ceilings) -> None:
        phases.ended("ceilings")
        teller.machine_measured(ceilings)

    measured = options.measure_machine and emitter.wants & EventKind.MACHINE_MEASURED
    runner = run.backend.prepare(
        spec,
        source,
        PrepareRequest(
            mode=run.mode,
            kv_type=run.kv_type,
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
    teller.close()
    phases.ended("weights")
    return runner


def main_quantization(file: GgufFile) -> QuantType:
    """The type that most weights of the layers have."""
    counts: dict[QuantType, int] = {}
    for name, tensor in file.tensors.items():
        weight = tensor.n_elements if name.startswith("blk.") else 0
        counts[tensor.qtype] = counts.get(tensor.qtype, 0) + weight
    return max(counts, key=lambda qtype: counts[qtype], default=QuantType.F32)


def _tell_end(
    emitter: Emitter,
    model: str,
    phases: LoadPhases,
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

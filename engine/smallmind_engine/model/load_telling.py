"""What loading tells the bus besides its start, progress and end."""

from __future__ import annotations

from smallmind_engine.kernels import Ceilings, CompileReport
from smallmind_engine.memory import RUNG_REASONS, MemoryPlan
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    Emitter,
    EventKind,
    KernelsPrepared,
    LogLevel,
    MachineMeasured,
    MemoryBudgetEvent,
    ReasonCode,
    RuntimeLoggerAdapter,
    TokenizerDiagnosed,
)
from smallmind_engine.telemetry.errors import MemoryBudgetError
from smallmind_engine.tokenizers import Tokenizer


def tell_degraded(emitter: Emitter, component: str, reason: DegradeReason, message: str) -> None:
    """Publish that something is less than it could be."""
    if emitter.wants & EventKind.DEGRADED:
        emitter.publish(
            Degraded(*emitter.header(), component=component, reason=reason, message=message)
        )


def tell_tokenizer(emitter: Emitter, model: str, tokenizer: Tokenizer) -> None:
    """Publish how the tokenizer was made, and what is wrong with it."""
    diagnostics = tokenizer.diagnostics
    if emitter.wants & EventKind.TOKENIZER_DIAGNOSED:
        emitter.publish(
            TokenizerDiagnosed(
                *emitter.header(),
                model=model,
                tokenizer_type=diagnostics.tokenizer_type,
                tokenizer_kind=diagnostics.kind,
                vocab_size=diagnostics.vocab_size,
                merge_count=diagnostics.merge_count,
                issues=tuple(issue.reason for issue in diagnostics.issues),
            )
        )
    if emitter.wants & EventKind.DEGRADED:
        for issue in diagnostics.issues:
            emitter.publish(
                Degraded(
                    *emitter.header(),
                    component="tokenizer",
                    reason=issue.reason,
                    message=issue.message,
                )
            )


def tell_plan(emitter: Emitter, model: str, plan: MemoryPlan) -> None:
    """Publish what was given up to keep to a budget, or that a limit will not hold."""
    limit_bytes = 0 if plan.limit is None else plan.limit.budget_bytes
    for step in plan.steps:
        if emitter.wants & EventKind.MEMORY_BUDGET:
            emitter.publish(
                MemoryBudgetEvent(
                    *emitter.header(),
                    model=model,
                    reason=ReasonCode.MEMORY_BUDGET_SOFT_LIMIT,
                    category=step.category.value,
                    wanted_bytes=step.before_bytes,
                    granted_bytes=step.after_bytes,
                    limit_bytes=limit_bytes,
                )
            )
        message = f"{step.message}, which saves {step.saved_bytes} bytes"
        tell_degraded(emitter, "memory", RUNG_REASONS[step.rung], message)
    if plan.limit is not None and not plan.fits:
        RuntimeLoggerAdapter("memory", emitter).log(
            LogLevel.WARN,
            "the model and one full context take more memory than there is",
            reason=ReasonCode.MEMORY_BUDGET_SOFT_LIMIT,
            planned_bytes=plan.total_bytes,
            limit_bytes=limit_bytes,
            source=plan.limit.source.value,
        )


def tell_refused(emitter: Emitter, model: str, error: MemoryBudgetError) -> None:
    """Publish that the budget does not hold the model."""
    if emitter.wants & EventKind.MEMORY_BUDGET:
        details = error.details
        emitter.publish(
            MemoryBudgetEvent(
                *emitter.header(),
                model=model,
                reason=ReasonCode.MEMORY_BUDGET_EXCEEDED,
                category=str(details["category"]),
                wanted_bytes=_size(details["wanted_bytes"]),
                granted_bytes=0,
                limit_bytes=_size(details["limit_bytes"]),
            )
        )


def _size(value: object) -> int:
    return value if isinstance(value, int) else 0


class PreparationTeller:
    """Publishes what a backend reports while it prepares a model.

    Args:
        emitter: of the loading.
        model: name for the events.
        backend: its name.
    """

    def __init__(self, emitter: Emitter, model: str, backend: str) -> None:
        self._emitter = emitter
        self._model = model
        self._backend = backend
        self._conversions: dict[tuple[str, str], list[str]] = {}

    def kernels_ready(self, report: CompileReport, isa: str) -> None:
        """Kernels were compiled, or found."""
        emitter = self._emitter
        if emitter.wants & EventKind.KERNELS_PREPARED:
            emitter.publish(
                KernelsPrepared(
                    *emitter.header(),
                    model=self._model,
                    backend=self._backend,
                    isa=isa,
                    compiled=report.compiled,
                    cached=report.cached,
                    duration_s=report.seconds,
                )
            )
        if report.problem is not None:
            reason = DegradeReason.KERNEL_CACHE_UNAVAILABLE
            tell_degraded(emitter, "kernels", reason, report.problem)

    def machine_measured(self, ceilings: Ceilings) -> None:
        """The machine's ceilings are known. Only asked for when someone wants the event."""
        emitter = self._emitter
        emitter.publish(
            MachineMeasured(
                *emitter.header(),
                backend=self._backend,
                threads=ceilings.threads,
                read_bytes_per_second=ceilings.read_bytes_per_second,
                flops_per_second=ceilings.flops_per_second,
                byte_ops_per_second=ceilings.byte_ops_per_second,
            )
        )

    def unsaved(self, problem: str) -> None:
        """Packed weights could not be kept on disk."""
        reason = DegradeReason.PACKED_WEIGHTS_NOT_KEPT
        tell_degraded(self._emitter, "kernels", reason, problem)

    def converted(self, tensor: str, found: str, used: str) -> None:
        """A tensor is computed in another type than it has in the file."""
        self._conversions.setdefault((found, used), []).append(tensor)

    def close(self) -> None:
        """Publish one event for each kind of conversion."""
        for (found, used), tensors in self._conversions.items():
            tell_degraded(
                self._emitter,
                "kernels",
                DegradeReason.WEIGHT_TYPE_CONVERTED,
                f"{len(tensors)} tensors of type {found}, such as {tensors[0]},"
                f" were converted to {used}",
            )

"""From what was found out to the events that tell of it. Their callers test the masks first.

Frequent events are built by position: names would take half as long again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smallmind_engine.kernels import OperationTime
from smallmind_engine.runtime.stalls import Stall
from smallmind_engine.sampling import Confidence
from smallmind_engine.telemetry import (
    Emitter,
    KernelExecuted,
    LogLevel,
    ReasonCode,
    RuntimeLogEvent,
    RuntimeStalled,
    TokenQuality,
)

_NO_LAYER: Final = -1


def tell_operations(
    emitter: Emitter, model: str, backend: str, operations: Sequence[OperationTime]
) -> None:
    """Publish the operations of a step."""
    for op, layer, quantization, tokens, seconds, n_bytes, flops in operations:
        shown = _NO_LAYER if layer is None else layer
        emitter.publish(
            KernelExecuted(
                *emitter.header(),
                model,
                backend,
                op,
                shown,
                quantization,
                tokens,
                seconds,
                n_bytes,
                flops,
            )
        )


def tell_quality(
    emitter: Emitter, model: str, index: int, found: Confidence, repetition: float
) -> None:
    """Publish how sure the model was of a token."""
    emitter.publish(
        TokenQuality(
            *emitter.header(),
            model,
            index,
            found.entropy,
            found.logprob,
            found.rank,
            found.margin,
            found.removed_mass,
            repetition,
        )
    )


def tell_stall(emitter: Emitter, model: str, index: int, stall: Stall) -> None:
    """Publish that the token ``index`` was late."""
    usage = stall.usage
    emitter.publish(
        RuntimeStalled(
            *emitter.header(),
            model=model,
            index=index,
            duration_s=stall.duration_s,
            typical_s=stall.typical_s,
            cause=stall.cause,
            gc_s=stall.gc_s,
            minor_faults=usage.minor_faults,
            major_faults=usage.major_faults,
            involuntary_switches=usage.switches,
        )
    )


def tell_non_finite(emitter: Emitter, model: str, where: str) -> None:
    """Publish a log line: values that are not finite began at ``where``."""
    emitter.publish(
        RuntimeLogEvent(
            *emitter.header(),
            level=LogLevel.ERROR,
            component="runtime",
            message="the model computed values that are not finite",
            reason=ReasonCode.NON_FINITE_LOGITS,
            key1="model",
            value1=model,
            key2="first_at",
            value2=where,
        )
    )

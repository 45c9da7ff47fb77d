"""The metrics of the operations of a model, which only ``detail="kernel"`` tells of."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import KernelExecuted, MachineMeasured
from smallmind_exporters.metrics import labels, readings
from smallmind_exporters.metrics.family import Family, MetricKind, Stability, one, rows

KERNEL_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="kernel_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time that operations of the model took.",
        unit="seconds",
        labels=(labels.MODEL, labels.OP, labels.OPERAND_TYPES),
        readings=(rows(KernelExecuted, readings.operation_rows("duration_s")),),
        otel="kernel.time",
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="kernel_read_bytes_total",
        kind=MetricKind.COUNTER,
        help="Bytes that operations of the model read, each counted once a call.",
        unit="bytes",
        labels=(labels.MODEL, labels.OP, labels.OPERAND_TYPES),
        readings=(rows(KernelExecuted, readings.operation_rows("read_bytes")),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="kernel_flops_total",
        kind=MetricKind.COUNTER,
        help="Multiplications and additions of operations of the model, of integers too.",
        annotation="{operation}",
        labels=(labels.MODEL, labels.OP, labels.OPERAND_TYPES),
        readings=(rows(KernelExecuted, readings.operation_rows("flops")),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="machine_read_bytes_per_second",
        kind=MetricKind.GAUGE,
        help="Bytes a second that the machine reads from memory at most, as measured at load.",
        annotation="By/s",
        readings=(one(MachineMeasured, lambda e: e.read_bytes_per_second),),
        summed=False,
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="machine_flops_per_second",
        kind=MetricKind.GAUGE,
        help="Float32 operations a second of a matrix product at most, as measured at load.",
        annotation="{operation}/s",
        readings=(one(MachineMeasured, lambda e: e.flops_per_second),),
        summed=False,
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="machine_byte_ops_per_second",
        kind=MetricKind.GAUGE,
        help="8-bit operations a second of compiled kernels at most, as measured at load.",
        annotation="{operation}/s",
        readings=(one(MachineMeasured, lambda e: e.byte_ops_per_second),),
        summed=False,
        stability=Stability.DEVELOPMENT,
    ),
)

"""How near operations come to what the machine can do: the roofline, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kernel_events import KernelExecuted, MachineMeasured

_COMPUTED_AS_FLOATS: Final = frozenset({"F32", "F16", "BF16", "INT8"})
"""Weights and caches of these types are multiplied as floats, all others as bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineRow:
    """One operation, over all its calls.

    Attributes:
        op: name of the operation.
        quantization: types of what it read, joined with ``+``.
        calls: how often it ran.
        seconds: that it took in all.
        time_share: of the seconds of all rows, from 0 to 1.
        read_bytes: weights, cached keys and values, and activations, once a call.
        flops: multiplications and additions, of integers too.
        read_share: of the bandwidth of memory that was measured; more than 1 for what is read
            from caches. None when it was not measured.
        compute_share: likewise of the speed of products: of bytes for quantised weights, of
            floats for the rest.
    """

    op: str
    quantization: str
    calls: int
    seconds: float
    time_share: float
    read_bytes: int
    flops: int
    read_share: float | None
    compute_share: float | None

    @property
    def read_bytes_per_second(self) -> float:
        """Bytes over seconds."""
        return _rate(self.read_bytes, self.seconds)

    @property
    def flops_per_second(self) -> float:
        """FLOPs over seconds."""
        return _rate(self.flops, self.seconds)


def roofline_rows(
    events: Iterable[Event], measured: MachineMeasured | None = None
) -> tuple[RooflineRow, ...]:
    """Add operations up by name.

    Args:
        events: of all kinds; those of operations count.
        measured: what the machine can do; by default the last such event in ``events``.

    Returns:
        The rows, those that took longest first.
    """
    by_op: dict[str, list[KernelExecuted]] = {}
    for event in events:
        if isinstance(event, KernelExecuted):
            by_op.setdefault(event.op, []).append(event)
        elif isinstance(event, MachineMeasured):
            measured = event
    whole = sum(event.duration_s for calls in by_op.values() for event in calls)
    rows = (_row(op, calls, whole, measured) for op, calls in by_op.items())
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _row(
    op: str, calls: list[KernelExecuted], whole_s: float, measured: MachineMeasured | None
) -> RooflineRow:
    seconds = sum(event.duration_s for event in calls)
    read_bytes, flops = sum(e.read_bytes for e in calls), sum(e.flops for e in calls)
    types = sorted({name for event in calls for name in event.quantization.split("+")})
    read_most = compute_most = None
    if measured is not None:
        read_most = measured.read_bytes_per_second
        compute_most = measured.flops_per_second
        if not _COMPUTED_AS_FLOATS.issuperset(types):
            compute_most = measured.byte_ops_per_second or compute_most
    return RooflineRow(
        op=op,
        quantization="+".join(types),
        calls=len(calls),
        seconds=seconds,
        time_share=_rate(seconds, whole_s),
        read_bytes=read_bytes,
        flops=flops,
        read_share=_share(_rate(read_bytes, seconds), read_most),
        compute_share=_share(_rate(flops, seconds), compute_most),
    )


def _rate(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0.0 else 0.0


def _share(rate: float, most: float | None) -> float | None:
    return None if not most else rate / most

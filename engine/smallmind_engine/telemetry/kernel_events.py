"""The events of kernels: made ready, measured, and run."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind


@event
class KernelsPrepared(Event):
    """The compiled kernels of a model are ready.

    Attributes:
        isa: the tier of instructions that they use.
        compiled: kernels that were compiled now.
        cached: kernels that were found compiled, on disk or in memory.
    """

    kind = EventKind.KERNELS_PREPARED

    model: str
    backend: str
    isa: str
    compiled: int
    cached: int
    duration_s: float


@event
class MachineMeasured(Event):
    """What the machine can do at most, with the threads that a backend uses.

    Measured once in a process, when an engine with ``detail="kernel"`` is loaded.

    Attributes:
        threads: that read memory and multiply bytes; those of float products are BLAS's own.
        read_bytes_per_second: of memory that is in no cache.
        flops_per_second: of a float32 matrix product.
        byte_ops_per_second: of products of bytes, a multiplication and an addition counting two;
            None for a backend without such kernels.
    """

    kind = EventKind.MACHINE_MEASURED

    backend: str
    threads: int
    read_bytes_per_second: float
    flops_per_second: float
    byte_ops_per_second: float | None


@event
class KernelExecuted(Event):
    """An operation of a step ran; only published with ``detail="kernel"``.

    Attributes:
        op: what was computed, such as ``qkv`` or ``attention``.
        layer: which one, from 0; -1 for what belongs to none.
        quantization: types of what was read, joined with ``+``.
        tokens: rows that went through it.
        read_bytes: weights, cached keys and values, and activations, each counted once.
        flops: multiplications and additions, of integers too.
    """

    kind = EventKind.KERNEL_EXECUTED

    model: str
    backend: str
    op: str
    layer: int
    quantization: str
    tokens: int
    duration_s: float
    read_bytes: int
    flops: int

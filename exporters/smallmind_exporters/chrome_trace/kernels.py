"""The operations of a step, which are told when it is over, laid out on a track."""

from __future__ import annotations

from smallmind_engine.telemetry import KernelExecuted
from smallmind_exporters.chrome_trace.records import Clock, Record, complete, microseconds


class KernelTrack:
    """Keeps the operations of one step at a time, and shows them one after the other.

    Args:
        track: number of the track.
        name: of the track.
    """

    __slots__ = ("_taken_us", "_told", "name", "track")

    def __init__(self, track: int, name: str) -> None:
        self.track = track
        self.name = name
        self._told: list[KernelExecuted] = []
        self._taken_us = 0.0

    def add(self, event: KernelExecuted) -> None:
        """Keep an operation until its step is told whole."""
        self._told.append(event)

    def lay_out(self, clock: Clock) -> list[Record]:
        """The records of the step: its operations ended when the first of them was told."""
        if not self._told:
            return []
        kernels, self._told = self._told, []
        durations = [microseconds(kernel.duration_s) for kernel in kernels]
        told_us = clock.us(kernels[0].time_ns)
        at = round(max(told_us - sum(durations), self._taken_us), 3)
        records = []
        for kernel, taken in zip(kernels, durations, strict=True):
            records.append(
                complete(
                    self.track,
                    kernel.op if kernel.layer < 0 else f"{kernel.op} {kernel.layer}",
                    at,
                    taken,
                    "kernel",
                    layer=kernel.layer,
                    quantization=kernel.quantization,
                    tokens=kernel.tokens,
                    read_bytes=kernel.read_bytes,
                    flops=kernel.flops,
                )
            )
            at = round(at + taken, 3)
        self._taken_us = at
        return records

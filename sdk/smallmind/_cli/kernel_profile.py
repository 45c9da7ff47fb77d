"""Records which operations ran while an engine worked, prefill and decode apart."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import (
    Event,
    EventKind,
    FirstToken,
    FlushResult,
    InferenceStarted,
    MachineMeasured,
    RooflineRow,
    roofline_rows,
)


class KernelProfile:
    """An exporter for an engine with ``detail="kernel"`` that runs one request at a time.

    Attributes:
        measured: the machine's ceilings; None until they are known.
    """

    name: Final = "kernel profile"
    interests: Final = (
        EventKind.KERNEL_EXECUTED
        | EventKind.MACHINE_MEASURED
        | EventKind.INFERENCE_STARTED
        | EventKind.FIRST_TOKEN
    )
    inline: Final = True

    def __init__(self) -> None:
        self.measured: MachineMeasured | None = None
        self._prefill: list[Event] = []
        self._decode: list[Event] = []
        self._phase = self._prefill

    def export(self, event: Event, /) -> None:
        """Sort an event in."""
        if isinstance(event, MachineMeasured):
            self.measured = event
        elif isinstance(event, InferenceStarted):
            self._phase = self._prefill
        elif isinstance(event, FirstToken):
            self._phase = self._decode
        else:
            self._phase.append(event)

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back."""
        return FlushResult(delivered=len(self._prefill) + len(self._decode))

    def close(self) -> None:
        """There is nothing to let go of."""

    def clear(self) -> None:
        """Forget the operations so far, as those of a run that only warms up."""
        self._prefill.clear()
        self._decode.clear()

    @property
    def prefill(self) -> tuple[RooflineRow, ...]:
        """What ran before the first token."""
        return roofline_rows(self._prefill, self.measured)

    @property
    def decode(self) -> tuple[RooflineRow, ...]:
        """What ran after it."""
        return roofline_rows(self._decode, self.measured)

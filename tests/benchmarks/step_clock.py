"""Times what an engine does between the steps of its model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from smallmind import Engine
from smallmind_engine.kernels import Chunk, Output


class StepClock:
    """Stands before the runner of an engine's scheduler, and adds up the time between its steps.

    The steps themselves are the same with exporters and without, but last ten times as long as
    what is between them, and vary by more than that.

    Attributes:
        between_ns: from the end of a step to the beginning of the next, since ``restart``.
    """

    def __init__(self, engine: Engine) -> None:
        scheduler = engine._core.scheduler
        self._runner = scheduler._runner
        self.batch_invariant = self._runner.batch_invariant
        self.prefill_chunk = self._runner.prefill_chunk
        self.restart()
        scheduler._runner = self

    def restart(self) -> None:
        """Begin with the next step."""
        self.between_ns = 0
        self._ended_ns = 0

    def forward(self, chunks: Sequence[Chunk], **how: object) -> list[Output]:
        """Run a step."""
        if self._ended_ns:
            self.between_ns += time.perf_counter_ns() - self._ended_ns
        answers = self._runner.forward(chunks, **how)
        self._ended_ns = time.perf_counter_ns()
        return answers

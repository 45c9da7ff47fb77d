"""The phases of loading: how long each takes, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from smallmind_engine.telemetry import Emitter, EventKind, ModelLoadProgress, now_ns

LoadProgress = Callable[[str, int, int], None]
"""Told of the phase, the bytes done and the bytes in all."""


class LoadPhases:
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

"""Exporters that can show how all exporters of a bus fare, or know what they lost themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from smallmind_engine.telemetry.exporter import ExporterHealth


@runtime_checkable
class HealthAware(Protocol):
    """An exporter with this method is given the bus's ``health`` when it is attached."""

    def bind_health(self, health: Callable[[], tuple[ExporterHealth, ...]], /) -> None:
        """Take a function that answers how each exporter fares."""
        ...


@runtime_checkable
class LossAware(Protocol):
    """An exporter with a queue or a receiver of its own, where events may be lost later.

    What it lost is added to what the bus's queue before it lost, in ``ExporterHealth.dropped``.
    """

    @property
    def lost(self) -> int:
        """Events lost for good after they were exported. Read from any thread."""
        ...

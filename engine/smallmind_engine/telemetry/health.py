"""Exporters that show how all exporters of a bus fare, and those that tell of their own losses."""

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
    """An exporter that counts the events it took and could not pass on."""

    @property
    def lost(self) -> int:
        """Events that are lost for good."""
        ...

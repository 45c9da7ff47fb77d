"""Engines over tiny models, for tests of what happens around the model."""

from __future__ import annotations

from pathlib import Path

from smallmind import Engine, load
from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult
from tiny_models import FAMILIES, TinyModel, write_tiny_model

TINY = TinyModel("llama", scale=0.35, tied=False)


def tiny_engine(folder: Path, model: TinyModel = TINY, **options: object) -> Engine:
    """An engine over a tiny model; ``options`` are those of ``load``."""
    path = folder / "tiny.gguf"
    if not path.exists():
        write_tiny_model(path, model)
    return load(path, **{"exporters": (), **options})


class Recorder:
    """Keeps every event; the plainest exporter there can be."""

    name = "recorder"
    interests = ALL_KINDS
    inline = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def export(self, event: Event, /) -> None:
        self.events.append(event)

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult(delivered=len(self.events))

    def close(self) -> None:
        pass

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


__all__ = ["FAMILIES", "TINY", "Recorder", "tiny_engine"]

"""Logs written by tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from smallmind_engine.telemetry import Event, EventBus
from smallmind_exporters.jsonl import JsonLinesExporter
from telemetry_events import (
    cancelled_in_queue,
    correlation,
    every_kind,
    headers,
    publish,
    rejected_request,
    request,
)


def write_log(path: Path, events: Iterable[Event], **options: object) -> JsonLinesExporter:
    """Write events as the exporter does; answers with the closed exporter."""
    with JsonLinesExporter(path, **options) as exporter:
        for event in events:
            exporter.export(event)
        exporter.flush(1.0)
    return exporter


def everything() -> list[Event]:
    """A stream of all kinds that are published."""
    return [event for event in every_kind(headers()) if type(event).__name__ != "Snapshot"]


def workload(bus: EventBus, rounds: int = 20) -> None:
    """Requests of several outcomes on a bus."""
    for number in range(rounds):
        publish(bus, request, correlation(f"req-{number}"), tokens=number % 5)
        publish(bus, rejected_request, correlation(f"rejected-{number}"))
        publish(bus, cancelled_in_queue, correlation(f"cancelled-{number}"))

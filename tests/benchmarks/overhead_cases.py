"""What is compared: one engine without exporters, and with more and more of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry
from step_clock import StepClock

from otlp_receiver_process import receiver_process
from smallmind import Engine, load
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.telemetry import Exporter, InMemoryRuntimeMetrics, MetricsExporter
from smallmind_exporters.otlp import OtlpExporter
from smallmind_exporters.prometheus import PrometheusExporter
from smallmind_exporters.structured import StructlogExporter

SITES = {
    RequestObserver: ("queued", "admitted", "started", "prefill_ended", "token", "stopped"),
    BatchObserver: ("begin", "rest", "stepped"),
}
REMOVED = "no exporter ÷ sites removed"
QUALITY = "  the same with quality_signals"
LIMITS = {
    REMOVED: 0.003,
    "in-memory + Prometheus": 0.01,
    "+ OTLP (request) + structlog": 0.02,
    "everything, token detail": 0.05,
}
# Sent when they are flushed, which happens between two measurements rather than within one.
NOT_BY_ITSELF = {
    "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    "OTEL_BLRP_SCHEDULE_DELAY": "3600000",
    "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
}


@dataclass(frozen=True)
class Side:
    """One way to run a completion.

    Attributes:
        engine: completes the prompt.
        clock: of that engine.
        around: is entered for each completion.
    """

    engine: Engine
    clock: StepClock
    around: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Case:
    """Two ways to run a completion: ``measured`` is expected to take longer than ``base``.

    Both are the same engine where they can be: two of one model differ by more than what is
    measured, through where their weights happen to lie in memory.

    Attributes:
        name: of the comparison.
        base: without what is to be measured.
        measured: with it.
    """

    name: str
    base: Side
    measured: Side


@contextmanager
def without_sites() -> Iterator[None]:
    """The observers' methods replaced by empty ones."""
    kept = {(cls, name): getattr(cls, name) for cls, names in SITES.items() for name in names}
    for cls, name in kept:
        setattr(cls, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for (cls, name), method in kept.items():
            setattr(cls, name, method)


@contextmanager
def as_it_is() -> Iterator[None]:
    """Nothing is replaced."""
    yield


def listening(side: Side, *exporters: Exporter) -> Side:
    """The same, whose bus has these exporters for as long as a completion takes."""

    @contextmanager
    def subscribed() -> Iterator[None]:
        with ExitStack() as stack:
            for exporter in exporters:
                stack.enter_context(side.engine.bus.subscribe(exporter))
            yield

    return Side(side.engine, side.clock, subscribed)


def cases(model: str, stack: ExitStack) -> list[Case]:
    """The comparisons, each with the one engine that has no exporter."""
    os.environ |= NOT_BY_ITSELF
    endpoint = stack.enter_context(receiver_process())
    lines = structlog.wrap_logger(
        structlog.PrintLogger(stack.enter_context(open(os.devnull, "w"))),  # noqa: PTH123, SIM115
        processors=[structlog.processors.JSONRenderer()],
    )

    def numbers() -> tuple[Exporter, ...]:
        prometheus = stack.enter_context(PrometheusExporter(registry=CollectorRegistry()))
        return MetricsExporter(InMemoryRuntimeMetrics()), prometheus

    def otlp(detail: str) -> OtlpExporter:
        return stack.enter_context(OtlpExporter(endpoint=endpoint, detail=detail))

    everything = (*numbers(), otlp("token"), StructlogExporter(lines))
    engine = stack.enter_context(load(model, exporters=()))
    signals = stack.enter_context(load(model, exporters=(), quality_signals=True))
    plain = Side(engine, StepClock(engine), as_it_is)
    measuring = Side(signals, StepClock(signals), as_it_is)
    return [
        Case(REMOVED, Side(engine, plain.clock, without_sites), plain),
        Case("in-memory + Prometheus", plain, listening(plain, *numbers())),
        Case(
            "+ OTLP (request) + structlog",
            plain,
            listening(plain, *numbers(), otlp("request"), StructlogExporter(lines)),
        ),
        Case("everything, token detail", plain, listening(plain, *everything)),
        Case(QUALITY, measuring, listening(measuring, *everything)),
    ]

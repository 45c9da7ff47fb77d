"""The engines whose speed is compared: without exporters, and with more and more of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry

from otlp_receiver_process import receiver_process
from smallmind import Engine, load
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.telemetry import InMemoryRuntimeMetrics, MetricsExporter
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
class Case:
    """Two ways to run a completion: ``measured`` is expected to take longer than ``base``.

    Attributes:
        name: of the comparison.
        base: the engine without exporters.
        measured: the engine with what is to be measured.
        around_base: is entered for each completion of ``base``.
    """

    name: str
    base: Engine
    measured: Engine
    around_base: Callable[[], AbstractContextManager[None]]


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


def cases(model: str, stack: ExitStack) -> list[Case]:
    """The comparisons, each with the one engine that has no exporter."""
    os.environ |= NOT_BY_ITSELF
    endpoint = stack.enter_context(receiver_process())
    lines = structlog.wrap_logger(
        structlog.PrintLogger(stack.enter_context(open(os.devnull, "w"))),  # noqa: PTH123, SIM115
        processors=[structlog.processors.JSONRenderer()],
    )

    def engine(*exporters: object, **options: object) -> Engine:
        return stack.enter_context(load(model, exporters=exporters, **options))

    def numbers() -> tuple[object, object]:
        prometheus = stack.enter_context(PrometheusExporter(registry=CollectorRegistry()))
        return MetricsExporter(InMemoryRuntimeMetrics()), prometheus

    def otlp(detail: str) -> OtlpExporter:
        return stack.enter_context(OtlpExporter(endpoint=endpoint, detail=detail))

    def everything() -> tuple[object, ...]:
        return *numbers(), otlp("token"), StructlogExporter(lines)

    plain = engine()
    measured = {
        "in-memory + Prometheus": engine(*numbers()),
        "+ OTLP (request) + structlog": engine(
            *numbers(), otlp("request"), StructlogExporter(lines)
        ),
        "everything, token detail": engine(*everything()),
        QUALITY: engine(*everything(), quality_signals=True),
    }
    return [
        Case(REMOVED, plain, plain, without_sites),
        *(Case(name, plain, other, as_it_is) for name, other in measured.items()),
    ]

"""A receiver for each test, and an environment without OpenTelemetry's variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import pytest

from otlp_receiver import Received, http_receiver
from smallmind_engine.telemetry import Event
from smallmind_exporters.otlp import OtlpExporter

Send = Callable[..., Received]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def receiver() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


@pytest.fixture
def send(receiver: Received) -> Send:
    """Export events with an exporter of the given options, and answer with what was received."""

    def sent(events: Iterable[Event], **options: object) -> Received:
        with OtlpExporter(endpoint=receiver.endpoint, **options) as exporter:
            for event in events:
                if event.kind & exporter.interests:
                    exporter.export(event)
            result = exporter.flush(5.0)
            assert result.complete, result
        return receiver

    return sent

"""What the environment says about OpenTelemetry, where its SDK leaves the reading to us."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_exporters import conventions

_E = TypeVar("_E", bound=StrEnum)
_N = TypeVar("_N", int, float)


class Signal(StrEnum):
    """A kind of telemetry."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class Protocol(StrEnum):
    """How OTLP is spoken."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


@dataclass(frozen=True, slots=True)
class Batching:
    """How records of a signal are gathered; each field from the SDK's own variables.

    Attributes:
        capacity: records that may wait.
        batch: records that are sent at once.
        delay_s: longest time that a record waits for others.
    """

    capacity: int
    batch: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class _BatchingVariables:
    prefix: str
    delay_ms: float


_BATCHING: Final = {
    Signal.TRACES: _BatchingVariables("OTEL_BSP", 5000.0),
    Signal.LOGS: _BatchingVariables("OTEL_BLRP", 1000.0),
}
_CAPACITY: Final = 2048
_BATCH: Final = 512
_METRIC_INTERVAL_MS: Final = 60_000.0
_YES: Final = frozenset({"true", "1", "span_only", "span_and_event"})
_EVENT: Final = frozenset({"event_only", "span_and_event"})


def is_disabled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the host switched its SDK off altogether."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def wanted_signals(environment: Mapping[str, str] = os.environ) -> tuple[Signal, ...]:
    """The signals, without those whose exporter the host set to ``none``."""
    return tuple(
        signal
        for signal in Signal
        if environment.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() != "none"
    )


def protocol_of(
    signal: Signal, chosen: str | None, environment: Mapping[str, str] = os.environ
) -> Protocol:
    """The protocol: as chosen, that of the signal, that of all signals, HTTP.

    Raises:
        ConfigError: it is none that is spoken here.
    """
    name = (
        chosen
        or environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or Protocol.HTTP
    )
    return member(Protocol, "protocol", "http/protobuf" if name == "http" else name)


def batching_of(signal: Signal, environment: Mapping[str, str] = os.environ) -> Batching:
    """How the records of a signal are gathered."""
    variables = _BATCHING[signal]
    prefix = variables.prefix
    delay_ms = _number(environment, f"{prefix}_SCHEDULE_DELAY", variables.delay_ms, float)
    return Batching(
        capacity=_number(environment, f"{prefix}_MAX_QUEUE_SIZE", _CAPACITY, int),
        batch=_number(environment, f"{prefix}_MAX_EXPORT_BATCH_SIZE", _BATCH, int),
        delay_s=delay_ms / 1000,
    )


def metric_interval_s(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds between two exports of metrics."""
    interval_ms = _number(environment, "OTEL_METRIC_EXPORT_INTERVAL", _METRIC_INTERVAL_MS, float)
    return interval_ms / 1000


def captures_on_spans(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the host wants content on spans."""
    return _capture(environment) in _YES


def captures_on_events(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the host wants content on log events."""
    return _capture(environment) in _EVENT


def emits_details(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the host wants one log event for each request; follows the capture of content."""
    said = environment.get(conventions.EMIT_EVENT_VARIABLE, "").strip().lower()
    return said == "true" if said in {"true", "false"} else captures_on_events(environment)


def _capture(environment: Mapping[str, str]) -> str:
    return environment.get(conventions.CAPTURE_CONTENT_VARIABLE, "").strip().lower()


def _number(
    environment: Mapping[str, str], name: str, default: _N, read: Callable[[str], _N]
) -> _N:
    """A positive number; the default for what is none, as the SDK does it."""
    try:
        value = read(environment.get(name, ""))
    except ValueError:
        return default
    return value if value > 0 else default


def member(kind: type[_E], option: str, value: str) -> _E:
    """A member of an enumeration by its value.

    Raises:
        ConfigError: it has none.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(each.value) for each in kind)
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"{option} is {value!r}, which the OTLP exporter does not know",
            hint=f"use one of {known}",
            option=option,
            value=value,
        ) from None

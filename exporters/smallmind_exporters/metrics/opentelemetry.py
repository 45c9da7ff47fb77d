"""What the families are called in OpenTelemetry: names, units, instruments and attributes.

The names of the GenAI conventions where there is one, ``smallmind.*`` elsewhere. An OpenTelemetry
collector that writes to Prometheus gives the ``smallmind.*`` metrics the very names that our own
exporter has: units become suffixes, annotations in braces are left out, counters get ``_total``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from smallmind_engine.telemetry import InferenceStopped
from smallmind_exporters import conventions
from smallmind_exporters.metrics.family import Family, Gauging, Label, MetricKind

NAMESPACE: Final = "smallmind"

# Beginnings of names that are namespaces of their own.
_AREAS: Final = (
    *("batch", "kernel", "kv_cache", "machine", "memory", "model", "prefix_cache"),
    *("telemetry", "tokenizer"),
)
_UNITS: Final = {"seconds": "s", "bytes": "By", "tokens": "{token}"}
# Units that become a suffix on the way to Prometheus, and so are no part of the name.
_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes", "By/s": "_bytes_per_second"}
_ATTRIBUTES: Final = {
    "model": conventions.REQUEST_MODEL,
    "operation": conventions.OPERATION_NAME,
    "type": conventions.TOKEN_TYPE,
    "error_type": conventions.ERROR_TYPE,
}


class Instrument(StrEnum):
    """The OpenTelemetry instrument of a family."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


def otel_name(family: Family) -> str:
    """The metric's name: that of the conventions, or one such as ``smallmind.requests``."""
    if family.convention:
        return family.convention
    if family.otel:
        return f"{NAMESPACE}.{family.otel}"
    unit = _SUFFIXES.get(otel_unit(family), "_")
    name = family.name.removesuffix("_total").removesuffix(unit)
    for area in _AREAS:
        if name.startswith(f"{area}_"):
            return f"{NAMESPACE}.{area}.{name.removeprefix(f'{area}_')}"
    return f"{NAMESPACE}.{name}"


def otel_unit(family: Family) -> str:
    """The unit as UCUM writes it, such as ``s``, ``By`` or ``{request}``."""
    return family.annotation or _UNITS[family.unit]


def otel_instrument(family: Family) -> Instrument:
    """The instrument: what adds up over engines is an up-down counter; maxima do not add up."""
    if family.kind is MetricKind.COUNTER:
        return Instrument.COUNTER
    if family.kind is MetricKind.HISTOGRAM:
        return Instrument.HISTOGRAM
    summed = family.kind is MetricKind.GAUGE and family.summed and family.gauging is Gauging.LATEST
    return Instrument.UP_DOWN_COUNTER if summed else Instrument.GAUGE


def otel_attribute(label: Label) -> str:
    """The attribute of a label: that of the conventions, or ``smallmind.<label>``."""
    return _ATTRIBUTES.get(label.name, f"{NAMESPACE}.{label.name}")


def convention_attributes(event: InferenceStopped) -> dict[str, str]:
    """What the GenAI conventions ask of every point of their metrics, for a request that ended.

    The families that stand for such a metric are all read from this event.
    """
    attributes = {
        conventions.OPERATION_NAME: event.operation,
        conventions.PROVIDER_NAME: conventions.PROVIDER,
        conventions.REQUEST_MODEL: event.model,
    }
    if event.error_type:
        attributes[conventions.ERROR_TYPE] = event.error_type
    return attributes

"""Our names of the GenAI conventions are those of a released version, and ours are well-formed."""

from __future__ import annotations

import re

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from smallmind_engine.telemetry import InferenceStopped, StopReason
from smallmind_exporters import conventions
from smallmind_exporters.metrics import (
    FAMILIES,
    PREFIX,
    MetricKind,
    convention_attributes,
    otel_attribute,
    otel_instrument,
    otel_name,
    otel_unit,
)
from telemetry_events import headers, request

OURS = {
    name: value
    for name, value in vars(conventions).items()
    if isinstance(value, str) and value.startswith("gen_ai.")
}
EVENTS = {conventions.INFERENCE_DETAILS_EVENT}  # the released package has constants of no event
RENAMED = ("gen_ai.system", "gen_ai.prompt", "gen_ai.completion", "gen_ai.usage.prompt_tokens")
SUFFIXES = {"s": "_seconds", "By": "_bytes", "By/s": "_bytes_per_second"}

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def released(module):
    return {value for name, value in vars(module).items() if name.startswith("GEN_AI")}


def test_every_name_is_in_the_released_conventions():
    known = released(gen_ai_attributes) | released(gen_ai_metrics)
    assert set(OURS.values()) - EVENTS <= known
    assert conventions.ERROR_TYPE == error_attributes.ERROR_TYPE


def test_no_name_is_one_that_was_replaced():
    assert not set(OURS.values()) & set(RENAMED)


def test_the_version_is_a_released_one():
    assert Schemas.V1_44_0.value == conventions.SCHEMA_URL


def test_values_are_those_of_the_released_conventions():
    operations = {value.value for value in gen_ai_attributes.GenAiOperationNameValues}
    types = {value.value for value in gen_ai_attributes.GenAiTokenTypeValues}
    ours = {value for name, value in vars(conventions).items() if name.startswith("OPERATION_")}
    assert ours - {conventions.OPERATION_NAME} <= operations
    assert {conventions.TOKEN_INPUT, conventions.TOKEN_OUTPUT} <= types


def test_our_provider_does_not_take_the_name_of_another():
    taken = {value.value for value in gen_ai_attributes.GenAiProviderNameValues}
    assert conventions.PROVIDER not in taken


@each_family
def test_the_name_keeps_to_the_namespaces(family):
    name = otel_name(family)
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", name)
    assert name.startswith("smallmind.") == (not family.convention)


def test_names_are_unique_and_none_is_the_namespace_of_another():
    names = sorted(otel_name(family) for family in FAMILIES)
    assert len(set(names)) == len(names)
    assert not [(a, b) for a in names for b in names if b.startswith(f"{a}.")]


@each_family
def test_a_collector_gives_it_the_name_that_our_exporter_gives(family):
    """Units become suffixes and counters get ``_total``, as Prometheus writers translate them."""
    if family.convention or family.otel:
        pytest.skip("its OpenTelemetry name is another one on purpose")
    unit = SUFFIXES.get(otel_unit(family), "")
    name = otel_name(family).replace(".", "_")
    total = "_total" if family.kind is MetricKind.COUNTER else ""
    assert name.removesuffix(unit) + unit + total == PREFIX + family.name


@each_family
def test_the_unit_is_ucum(family):
    assert re.fullmatch(r"(s|By|1|\{[a-z]+\})(/s)?", otel_unit(family))
    assert bool(family.unit) != bool(family.annotation)


@each_family
def test_the_instrument_goes_with_the_kind(family):
    instrument = otel_instrument(family)
    assert (instrument == "counter") == (family.kind is MetricKind.COUNTER)
    assert (instrument == "histogram") == (family.kind is MetricKind.HISTOGRAM)
    assert (instrument == "up_down_counter") == (
        family.kind is MetricKind.GAUGE and family.summed and family.gauging == "latest"
    )


def test_labels_have_attributes_of_the_conventions_or_of_our_namespace():
    shown = {label.name: otel_attribute(label) for family in FAMILIES for label in family.labels}
    assert shown["model"] == "gen_ai.request.model"
    assert shown["operation"] == "gen_ai.operation.name"
    assert shown["type"] == "gen_ai.token.type"
    assert shown["reason"] == "smallmind.reason"


@each_family
def test_what_stands_for_a_convention_is_read_from_the_end_of_requests(family):
    if family.convention:
        assert [reading.event for reading in family.readings] == [InferenceStopped]


@pytest.mark.parametrize("reason", [StopReason.COMPLETED, StopReason.ERROR])
def test_points_of_the_conventions_carry_what_these_require(reason):
    *_, stopped = request(headers(), reason=reason)
    attributes = convention_attributes(stopped)
    assert attributes["gen_ai.provider.name"] == "smallmind"
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert ("error.type" in attributes) == (reason is StopReason.ERROR)

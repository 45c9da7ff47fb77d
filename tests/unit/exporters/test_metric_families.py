"""The table of metrics keeps to the conventions of Prometheus and of OpenTelemetry."""

from __future__ import annotations

import math

import pytest

from smallmind_engine.telemetry import (
    ALL_KINDS,
    DegradeReason,
    EventKind,
    LogLevel,
    Phase,
    RequestStatus,
    StopReason,
)
from smallmind_exporters.metrics import FAMILIES, MetricKind, MetricStore
from smallmind_exporters.metrics.store import known_values
from smallmind_exporters.metrics.telemetry_families import EVENTS, INVALID_VALUES, PROCESSES

# From the metrics document of the OpenTelemetry GenAI semantic conventions.
ADVISED = {
    "gen_ai.client.token.usage": (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216),
        67108864,
    ),
    "gen_ai.server.request.duration": (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48),
        *(40.96, 81.92),
    ),
    "gen_ai.server.time_per_output_token": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    ),
    "gen_ai.server.time_to_first_token": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5),
        *(5.0, 7.5, 10.0),
    ),
}
OWN = {INVALID_VALUES, EVENTS, PROCESSES}  # counted by the exporter itself
IDS = {"request_id", "session_id", "trace_id", "span_id"}
HISTOGRAMS = [family for family in FAMILIES if family.kind is MetricKind.HISTOGRAM]

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def family_named(name):
    return next(family for family in FAMILIES if family.name == name)


def test_names_are_unique():
    names = [family.name for family in FAMILIES]
    assert sorted(set(names)) == sorted(names)


@each_family
def test_only_counters_end_in_total(family):
    assert family.name.endswith("_total") == (family.kind is MetricKind.COUNTER)


@each_family
def test_the_unit_is_a_base_unit_and_part_of_the_name(family):
    assert family.unit in {"", "seconds", "bytes", "tokens"}
    assert family.name.removesuffix("_total").endswith(family.unit)


@each_family
def test_help_is_one_sentence(family):
    assert family.help.endswith(".")
    assert ". " not in family.help


@each_family
def test_no_label_is_an_id_and_every_label_is_bounded(family):
    assert not IDS & {label.name for label in family.labels}
    assert all(label.values or label.limit for label in family.labels)


@each_family
def test_something_moves_it(family):
    ways = bool(family.readings) + bool(family.stage) + bool(family.health)
    assert ways == (family not in OWN)


@each_family
def test_only_counters_count_events_as_such(family):
    plain = [r for r in family.readings if r.value is None and r.rows is None]
    assert not plain or family.kind is MetricKind.COUNTER


@each_family
def test_buckets_ascend_and_only_histograms_have_them(family):
    assert bool(family.buckets) == (family.kind is MetricKind.HISTOGRAM)
    assert list(family.buckets) == sorted(set(family.buckets))
    assert all(math.isfinite(bound) for bound in family.buckets)
    assert len(family.buckets) <= 20


@pytest.mark.parametrize("convention", sorted(ADVISED))
def test_buckets_begin_with_those_the_conventions_advise(convention):
    (family,) = (family for family in FAMILIES if family.convention == convention)
    advised = ADVISED[convention]
    assert family.buckets[: len(advised)] == advised
    assert all(bound > advised[-1] for bound in family.buckets[len(advised) :])


def test_every_family_of_a_convention_is_held_against_it():
    assert {family.convention for family in FAMILIES} - {""} == set(ADVISED)


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("requests_total", "reason", StopReason),
        ("requests_total", "status", RequestStatus),
        ("request_duration_seconds", "status", RequestStatus),
        ("request_phase_seconds_total", "phase", Phase),
        ("degraded_total", "reason", DegradeReason),
        ("log_events_total", "level", [level.name.lower() for level in LogLevel]),
        ("prompt_tokens_total", "source", ["computed", "cached"]),
        ("kv_cache_lookups_total", "result", ["hit", "miss"]),
    ],
)
def test_every_value_of_a_closed_label_exists_from_the_start(name, label, values):
    family = family_named(name)
    at = [known.name for known in family.free_labels].index(label)
    assert {row[at] for row in known_values(family)} == {str(value) for value in values}


def test_series_of_one_model_at_rest_stay_few():
    series = sum(
        len(list(known_values(family))) * (len(family.buckets) + 3 if family.buckets else 1)
        for family in FAMILIES
        if family.per_model
    )
    assert series < 475


def test_kinds_that_say_nothing_new_are_not_asked_for():
    unused = ALL_KINDS & ~MetricStore().interests
    assert unused == (
        EventKind.MODEL_LOAD_PROGRESS
        | EventKind.INFERENCE_STARTED
        | EventKind.FIRST_TOKEN
        | EventKind.RETRIEVAL_STARTED
    )

"""Options are checked when they are made, with the value and what would be right."""

from __future__ import annotations

import dataclasses

import pytest

from smallmind import BackpressurePolicy, EngineOptions, GenerationOptions, WeightsMode
from smallmind_engine.telemetry.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", 2.0),
        ("seed", -1),
        ("stop", [""]),
        ("stop", [1]),
        ("logprobs", 101),
        ("logprobs", -1),
        ("request_timeout", 0.0),
        ("request_timeout", float("inf")),
        ("max_buffered_tokens", 0),
        ("backpressure", "drop"),
        ("context_overflow", "guess"),
    ],
)
def test_a_bad_request_option_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        GenerationOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backend", "cuda"),
        ("weights", "somewhere"),
        ("context_length", 0),
        ("max_memory_bytes", 0),
        ("memory_budget_mode", "lax"),
        ("tokenizer_mode", "guess"),
        ("max_concurrent_requests", 0),
        ("max_queue_depth", -1),
    ],
)
def test_a_bad_engine_option_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        EngineOptions(**{name: value})
    assert repr(value) in str(caught.value)


def test_strings_become_the_enums_that_they_name() -> None:
    options = GenerationOptions(backpressure="cancel", stop="end")
    assert options.backpressure is BackpressurePolicy.CANCEL
    assert options.stop == ("end",)
    assert EngineOptions(weights="per_layer").weights is WeightsMode.PER_LAYER


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().max_tokens = 3

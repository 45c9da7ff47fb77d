"""A model that computes NaN says where it began."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines import TINY, Recorder, tiny_engine
from smallmind_engine.telemetry import InferenceStopped, ReasonCode, RuntimeLogEvent
from smallmind_engine.telemetry.errors import InferenceError
from tiny_models import TinyModel, random_tensors

PLANTED = (
    ("token_embd.weight", "embedding"),
    ("blk.0.attn_norm.weight", "layer 0"),
    ("blk.1.attn_q.weight", "layer 1"),
    ("blk.1.ffn_down.weight", "layer 1"),
    ("output_norm.weight", "output"),
)


def damaged(name: str) -> TinyModel:
    """The tiny model with NaN in one tensor."""
    weights = random_tensors(TINY)[name].copy()
    weights.reshape(-1)[:] = np.nan
    return TinyModel("llama", scale=TINY.scale, tied=False, tensors={name: weights})


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(("tensor", "place"), PLANTED)
def test_the_error_the_event_and_the_log_say_where_it_began(
    tmp_path: Path, backend: str, tensor: str, place: str
) -> None:
    recorder = Recorder()
    with (
        tiny_engine(tmp_path, damaged(tensor), backend=backend, exporters=[recorder]) as engine,
        pytest.raises(InferenceError) as caught,
    ):
        engine.generate("the", max_tokens=3, temperature=0.0)
    assert caught.value.reason is ReasonCode.NON_FINITE_LOGITS
    assert caught.value.details["first_at"] == place
    assert place in str(caught.value)
    assert recorder.of(InferenceStopped)[0].non_finite_at == place
    (line,) = [
        event
        for event in recorder.of(RuntimeLogEvent)
        if event.reason is ReasonCode.NON_FINITE_LOGITS
    ]
    assert line.properties["first_at"] == place


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_sound_model_has_no_such_place(tmp_path: Path, backend: str) -> None:
    with tiny_engine(tmp_path, backend=backend) as engine:
        ids = np.arange(5, dtype=np.int64)
        assert engine.model.runner.find_non_finite(ids) == ""


def test_the_engine_goes_on_with_other_requests(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, damaged("blk.1.attn_norm.weight")) as engine:
        for _ in range(2):
            with pytest.raises(InferenceError):
                engine.generate("the", max_tokens=3)
        assert engine.stats().running == 0

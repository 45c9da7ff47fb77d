"""Encoders give the states of an independent reference, alone and with others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from reference_encoder import ReferenceEncoder
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    Chunk,
    LogitsWanted,
    ModelRunner,
    OperationTime,
    PrepareRequest,
    WeightsMode,
    get_backend,
)
from smallmind_engine.model import GgufWeights, transformer_spec
from smallmind_engine.telemetry.errors import OperationCancelledError, UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode
from tiny_encoders import ENCODERS, TinyEncoder, bert_vocabulary, write_tiny_encoder

IDS = [2, *(5 + (i * 37) % (len(bert_vocabulary()) - 5) for i in range(38)), 3]


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_tiny_encoder(tmp_path / "tiny.gguf", ENCODERS[request.param])


def runner_for(path: Path, mode: WeightsMode = WeightsMode.RESIDENT) -> ModelRunner:
    file = GgufFile.open(path)
    source = GgufWeights(file)
    spec = transformer_spec(file.metadata, source)
    return get_backend("numpy").prepare(spec, source, PrepareRequest(mode=mode))


def chunk_of(
    runner: ModelRunner, ids: list[int], wanted: LogitsWanted = LogitsWanted.HIDDEN
) -> Chunk:
    return Chunk(np.array(ids), runner.new_cache(len(ids)), wanted)


def states(runner: ModelRunner, *texts: list[int]) -> list[np.ndarray]:
    return runner.forward([chunk_of(runner, ids) for ids in texts])


def test_states_are_those_of_the_float64_reference(encoder: Path) -> None:
    (got,) = states(runner_for(encoder), IDS)
    np.testing.assert_allclose(got, ReferenceEncoder(encoder).states(IDS), atol=2e-5)


def test_quantised_weights_give_the_states_of_their_dequantised_values(tmp_path: Path) -> None:
    path = write_tiny_encoder(tmp_path / "q8.gguf", TinyEncoder(qtype=GGMLQuantizationType.Q8_0))
    (got,) = states(runner_for(path), IDS)
    np.testing.assert_allclose(got, ReferenceEncoder(path).states(IDS), atol=2e-5)


def test_weights_per_layer_give_the_same_bits_as_resident_ones(encoder: Path) -> None:
    (resident,) = states(runner_for(encoder), IDS)
    (per_layer,) = states(runner_for(encoder, WeightsMode.PER_LAYER), IDS)
    np.testing.assert_array_equal(per_layer, resident)


def test_texts_of_one_step_do_not_touch_each_other(encoder: Path) -> None:
    runner = runner_for(encoder)
    texts = [IDS[:13], IDS[5:7], IDS, IDS[20:21]]
    for ids, together in zip(texts, states(runner, *texts), strict=True):
        (alone,) = states(runner, ids)
        np.testing.assert_allclose(together, alone, atol=2e-5)


def test_a_token_sees_those_after_it(encoder: Path) -> None:
    runner = runner_for(encoder)
    (one,), (other,) = states(runner, IDS), states(runner, [*IDS[:-1], IDS[0]])
    assert np.abs(one[0] - other[0]).max() > 1e-4


def test_an_encoder_takes_no_memory_for_a_cache(encoder: Path) -> None:
    runner = runner_for(encoder)
    assert runner.kv_bytes_per_token == 0
    assert runner.new_cache(40).allocated_bytes == 0


@pytest.mark.parametrize("wanted", [LogitsWanted.LAST, LogitsWanted.ALL, LogitsWanted.BEST])
def test_an_encoder_has_no_logits(encoder: Path, wanted: LogitsWanted) -> None:
    runner = runner_for(encoder)
    with pytest.raises(UnsupportedModelError) as caught:
        runner.forward([chunk_of(runner, IDS, wanted)])
    assert caught.value.reason is ReasonCode.MODEL_CANNOT_GENERATE


def test_a_cancelled_step_of_an_encoder_leaves_its_texts_unread(encoder: Path) -> None:
    runner = runner_for(encoder)
    token = CancellationToken()
    token.cancel()
    chunk = chunk_of(runner, IDS)
    with pytest.raises(OperationCancelledError):
        runner.forward([chunk], limit=WorkLimit(token))
    assert chunk.cache.length == 0


def test_the_operations_of_an_encoder_are_told(encoder: Path) -> None:
    told: list[OperationTime] = []
    runner = runner_for(encoder)
    runner.forward([chunk_of(runner, IDS)], on_operations=told.extend)
    assert [(time.op, time.layer) for time in told] == [
        ("attention_block", 0),
        ("ffn_block", 0),
        ("attention_block", 1),
        ("ffn_block", 1),
    ]

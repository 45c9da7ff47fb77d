"""Vectors by a model, through the engine."""

from __future__ import annotations

import numpy as np
import pytest

from engines import Recorder, tiny_engine
from rag_indexes import LIBRARY, open_index, texts
from smallmind import Engine
from smallmind.rag import EngineEmbedder, RetrievalOptions
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import BatchStepped, OperationCancelledError, RetrievalEnded

pytestmark = pytest.mark.skipif(
    not hasattr(Engine, "embed"), reason="this engine cannot embed texts yet"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with tiny_engine(tmp_path_factory.mktemp("engine")) as made:
        yield made


def test_vectors_are_those_of_the_engine(engine):
    embedder = EngineEmbedder(engine)
    vectors = embedder.embed(["the end", "and so on", ""])
    assert (vectors.shape, vectors.dtype) == ((3, embedder.dimension), np.float32)
    expected = engine.embed(["the end", "and so on"]).vectors
    assert np.allclose(vectors[:2], expected, atol=1e-5)
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_a_prefix_is_part_of_the_texts_and_of_the_identity(engine):
    plain, marked = EngineEmbedder(engine), EngineEmbedder(engine, prefix="query: ")
    assert plain.identity != marked.identity
    assert engine.model.fingerprint in plain.identity
    expected = plain.embed(["query: the end"])
    assert np.allclose(marked.embed(["the end"]), expected, atol=1e-5)


def test_texts_longer_than_the_model_reads_are_cut(engine):
    assert EngineEmbedder(engine).embed(["the end " * 500]).shape[0] == 1


def test_a_cancelled_token_stops_it(engine):
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        EngineEmbedder(engine).embed(["x"], limit=WorkLimit(token))
    with pytest.raises(OperationCancelledError):
        EngineEmbedder(engine).embed(["x"], limit=WorkLimit.within(1e-9))


def test_an_index_with_a_models_vectors_finds_a_text_by_itself(engine, tmp_path):
    recorder = Recorder()
    with (
        engine.bus.subscribe(recorder),
        open_index(tmp_path, embedder=EngineEmbedder(engine)) as index,
    ):
        index.update(texts())
        dense = RetrievalOptions(mode="dense", top_k=1)
        recorder.events.clear()
        found = index.retrieve(LIBRARY["tides.md"], options=dense, bus=engine.bus)
        (ended,) = recorder.of(RetrievalEnded)
    assert found.chunks[0].source == "tides.md"
    assert found.chunks[0].similarity == pytest.approx(1.0, abs=1e-4)
    # The embedding of the question is told under the id of the search.
    told = [event for event in recorder.events if not isinstance(event, BatchStepped)]
    assert {event.correlation.request_id for event in told} == {ended.correlation.request_id}

"""Searching: rankings, their fusion, what may be seen, and how it is told."""

from __future__ import annotations

import numpy as np
import pytest

from engines import Recorder
from rag_indexes import LIBRARY, open_index, texts
from smallmind.rag import (
    FusionOptions,
    GroundingRules,
    HashingEmbedder,
    RagIndex,
    RagIndexError,
    RetrievalMode,
    RetrievalOptions,
    UserContext,
)
from smallmind.rag._fusion import fused
from smallmind.rag._vectors import VectorTable, nearest
from smallmind.rag._words import terms_of
from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry import (
    EventBus,
    OperationCancelledError,
    ReasonCode,
    RequestStatus,
    RetrievalEnded,
    RetrievalStarted,
    RuntimeLogEvent,
    new_correlation,
)
from smallmind_engine.telemetry.errors import ConfigError

ADA = UserContext("ada", frozenset({"staff"}))
each_mode = pytest.mark.parametrize("mode", RetrievalMode)


@pytest.fixture
def index(tmp_path):
    with open_index(tmp_path) as made:
        made.update(texts())
        yield made


def sources(result):
    return [chunk.source for chunk in result.chunks]


@each_mode
def test_the_document_that_answers_comes_first(index, mode):
    result = index.retrieve("What does yeast do to dough?", options=RetrievalOptions(mode=mode))
    assert sources(result)[0] == "bread.md"
    assert result.mode is mode


def test_a_chunk_tells_where_it_is_and_why_it_was_found(index):
    chunk = index.retrieve("full moon tides").chunks[0]
    assert chunk.text == LIBRARY["tides.md"][chunk.start : chunk.end]
    assert (chunk.heading, chunk.title, chunk.lexical_rank, chunk.dense_rank) == (
        "Tides",
        "Tides",
        1,
        1,
    )
    assert chunk.coverage == 1.0
    assert chunk.similarity > 0.4
    assert chunk.score == pytest.approx(1 / 3 + 0.5 / 3)


def test_inflections_are_found(index):
    assert sources(index.retrieve("baking loaves", options=RetrievalOptions(mode="lexical"))) == [
        "bread.md"
    ]


@pytest.mark.parametrize(
    "question", ['"', "NEAR(", "a AND", "* OR -", "text:bees", "", "???", "🐝"]
)
@each_mode
def test_no_question_is_read_as_a_query_language(index, question, mode):
    index.retrieve(question, options=RetrievalOptions(mode=mode))


def test_an_empty_index_finds_nothing(tmp_path):
    with open_index(tmp_path) as empty:
        result = empty.retrieve("bees")
        assert (result.chunks, result.candidates, result.sufficient) == ((), 0, False)


def test_an_index_of_words_needs_no_embedder(tmp_path):
    with RagIndex(tmp_path / "words.db") as index:
        index.update(texts())
        result = index.retrieve("queen")
        assert (sources(result), result.mode) == (["bees.md"], RetrievalMode.LEXICAL)
        assert result.chunks[0].similarity is None
        with pytest.raises(ConfigError, match="without an embedder"):
            index.retrieve("queen", options=RetrievalOptions(mode="dense"))


def test_vectors_of_another_embedder_are_never_compared(index, tmp_path):
    with open_index(tmp_path, embedder=HashingEmbedder(32)) as other:
        with pytest.raises(RagIndexError, match="hashing-v1:64") as caught:
            other.retrieve("bees")
        assert caught.value.reason is ReasonCode.RAG_EMBEDDER_MISMATCH
        assert sources(other.retrieve("bees", options=RetrievalOptions(mode="lexical")))


def test_new_documents_are_found_by_vectors_at_once(index):
    dense = RetrievalOptions(mode="dense", top_k=1)
    assert sources(index.retrieve("volcanoes", options=dense)) != ["v.md"]
    index.update(texts({**LIBRARY, "v.md": "Volcanoes erupt."}))
    assert sources(index.retrieve("volcanoes", options=dense)) == ["v.md"]
    index.update(texts())
    assert sources(index.retrieve("volcanoes", options=dense)) != ["v.md"]


@each_mode
def test_what_may_not_be_seen_takes_no_place_from_what_may(tmp_path, mode):
    hidden = {f"h{n}.md": "bees bees bees and bees" for n in range(30)}
    with open_index(tmp_path) as index:
        index.update(
            texts(
                {**hidden, "open.md": "Some bees, among other things that are here."},
                **{f"h{n}": ["staff"] for n in range(30)},
            )
        )
        narrow = RetrievalOptions(mode=mode, top_k=3, depth=1)
        assert sources(index.retrieve("bees", options=narrow)) == ["open.md"]
        seen = index.retrieve("bees", options=narrow, user=ADA)
        assert sources(seen) != ["open.md"]


def test_a_user_needs_every_label(tmp_path):
    with open_index(tmp_path) as index:
        index.update(texts(bees=["staff", "hr"], tides=["staff"]))
        question = "bees tides bread"
        assert set(sources(index.retrieve(question))) == {"bread.md"}
        assert set(sources(index.retrieve(question, user=ADA))) == {"bread.md", "tides.md"}
        both = UserContext("bo", frozenset({"staff", "hr", "more"}))
        assert len(sources(index.retrieve(question, user=both))) == 3


class Faulty:
    def __init__(self, *, answer):
        self._answer = answer

    def allows(self, user, labels, /):
        if self._answer is None:
            raise RuntimeError
        return self._answer


@pytest.mark.parametrize("answer", [None, False, 1, "yes", object()])
def test_an_authorizer_that_fails_or_mumbles_means_no(tmp_path, answer):
    with open_index(tmp_path, authorizer=Faulty(answer=answer)) as index:
        index.update(texts(bees=["staff"]))
        assert "bees.md" not in sources(index.retrieve("bees", user=ADA))


def test_no_authorizer_is_asked_for_nobody(tmp_path):
    with open_index(tmp_path, authorizer=Faulty(answer=True)) as index:
        index.update(texts(bees=["staff"]))
        assert "bees.md" not in sources(index.retrieve("bees"))
        assert "bees.md" in sources(index.retrieve("bees", user=UserContext("eve")))


def test_a_reranker_orders_but_cannot_add(index):
    given = []

    class ByLength:
        def scores(self, question, chunks, /, *, limit):
            given.extend(chunks)
            return [-len(chunk.text) for chunk in chunks]

    options = RetrievalOptions(mode="dense", top_k=2)
    result = index.retrieve("bees", options=options, reranker=ByLength())
    lengths = [len(chunk.text) for chunk in result.chunks]
    assert len(given) == 3
    assert lengths == sorted(len(chunk.text) for chunk in given)[:2]
    assert dict(result.phases)["rerank"] >= 0.0


def test_a_reranker_with_too_few_scores_is_told(index):
    class Lazy:
        def scores(self, question, chunks, /, *, limit):
            return [1.0]

    with pytest.raises(ConfigError, match="3 scores"):
        index.retrieve("bees bread tides", reranker=Lazy())


def test_the_budget_of_bytes_keeps_the_best(index):
    everything = index.retrieve("bees bread tides")
    size = len(everything.chunks[0].text.encode())
    kept = index.retrieve("bees bread tides", options=RetrievalOptions(max_bytes=size + 1))
    assert [chunk.chunk_id for chunk in kept.chunks] == [everything.chunks[0].chunk_id]


def test_what_is_good_enough_is_decided_by_the_rules(index):
    strict = GroundingRules(min_coverage=1.1, min_similarity=1.1)
    assert not index.retrieve("full moon", rules=strict).sufficient
    assert index.retrieve("full moon", rules=GroundingRules()).sufficient
    assert not index.retrieve("quantum chromodynamics lattice", rules=GroundingRules()).sufficient
    assert not index.retrieve("full moon", rules=GroundingRules(min_sources=2)).sufficient


def test_a_search_is_told_as_two_events_and_log_lines_of_one_request(tmp_path):
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    ids = new_correlation(request_id="mine", session_id="s")
    with open_index(tmp_path, name="library") as index:
        index.update(texts())
        result = index.retrieve("bees", bus=bus, correlation=ids)
    (started,), (ended,) = recorder.of(RetrievalStarted), recorder.of(RetrievalEnded)
    assert (started.data_source, started.mode, started.top_k) == ("library", "hybrid", 5)
    assert (ended.status, ended.reason, ended.error_type) == (RequestStatus.COMPLETED, None, "")
    assert (ended.returned, ended.candidates) == (3, 3)
    assert ended.returned_bytes == sum(len(chunk.text.encode()) for chunk in result.chunks)
    assert [name for name, _ in ended.phases] == ["embed", "lexical", "dense", "fuse", "read"]
    assert sum(seconds for _, seconds in ended.phases) <= ended.duration_s
    assert {event.correlation for event in recorder.events} == {ids}
    assert {event.component for event in recorder.of(RuntimeLogEvent)} == {"rag"}
    assert "bees" not in str(recorder.events)


def test_an_insufficient_search_is_told_with_its_reason(tmp_path):
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    with open_index(tmp_path, bus=bus) as index:
        index.retrieve("bees")
    (ended,) = recorder.of(RetrievalEnded)
    assert ended.reason is ReasonCode.RAG_EVIDENCE_INSUFFICIENT


@each_mode
def test_a_cancelled_search_stops_and_is_told(tmp_path, mode):
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    token = CancellationToken()
    token.cancel()
    with open_index(tmp_path, bus=bus) as index, pytest.raises(OperationCancelledError):
        index.retrieve("bees", options=RetrievalOptions(mode=mode), limit=WorkLimit(token))
    (ended,) = recorder.of(RetrievalEnded)
    assert (ended.status, ended.reason) == (RequestStatus.CANCELLED, ReasonCode.CANCELLED_BY_CALLER)


def test_a_search_that_fails_is_told(tmp_path):
    class Broken(HashingEmbedder):
        def embed(self, texts, /, *, limit):
            raise OSError("gone")

    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    with (
        open_index(tmp_path, bus=bus, embedder=Broken()) as index,
        pytest.raises(OSError, match="gone"),
    ):
        index.retrieve("bees")
    (ended,) = recorder.of(RetrievalEnded)
    assert (ended.status, ended.error_type) == (RequestStatus.FAILED, "OSError")


def test_fusion_on_paper():
    """1/(1+1) + 2/(1+2) for 7; 1/(1+2) for 8; 2/(1+1) for 9."""
    assert fused(((1.0, [7, 8]), (2.0, [9, 7])), 1.0) == [
        (7, pytest.approx(1 / 2 + 2 / 3)),
        (9, pytest.approx(1.0)),
        (8, pytest.approx(1 / 3)),
    ]


def test_equal_places_are_decided_by_age():
    assert [chunk for chunk, _ in fused(((1.0, [5]), (1.0, [3])), 60.0)] == [3, 5]


def test_nearest_agrees_with_sorting_everything():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 8)).astype(np.float32)
    vectors[100:110] = vectors[50]  # ties
    label_sets = rng.integers(0, 4, 500)
    table = VectorTable(1, np.arange(10, 510), label_sets, vectors)
    question = vectors[50]
    allowed = {1, 3}
    scores = vectors @ question
    rows = [row for row in range(500) if label_sets[row] in allowed]
    expected = sorted(rows, key=lambda row: (-scores[row], row))
    got = nearest(table, question, allowed, 40, NO_LIMIT)
    assert [chunk - 10 for chunk, _ in got] == expected[:40]
    assert nearest(table, question, (), 5, NO_LIMIT) == []
    rare = VectorTable(1, table.ids, np.arange(500) % 10, vectors)
    rows = sorted(range(0, 500, 10), key=lambda row: (-scores[row], row))
    assert [chunk - 10 for chunk, _ in nearest(rare, question, (0,), 9, NO_LIMIT)] == rows[:9]
    assert len(nearest(table, question, allowed, 10_000, NO_LIMIT)) == sum(
        np.isin(label_sets, [1, 3])
    )


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("What does the queen do?", ("queen",)),
        ("To be or not to be", ("to", "be", "or", "not")),
        ("snake_case snake_case GGUF-v3", ("snake_case", "gguf", "v3")),
        ("", ()),
    ],
)
def test_words_that_tell_nothing_are_left_out(question, terms):
    assert terms_of(question) == terms


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "best"},
        {"top_k": 0},
        {"depth": 0},
        {"dense_weight": -1.0},
        {"fusion_constant": float("nan")},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match="it must be"):
        RetrievalOptions(**options)


@pytest.mark.parametrize("name", ["constant", "lexical_weight", "dense_weight"])
def test_a_fusion_that_cannot_be_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        FusionOptions(**{name: -1.0})


class Plain:
    """An embedder with what its protocol asks for, and no more."""

    def __init__(self):
        self._inner = HashingEmbedder(64)
        self.identity, self.dimension = "plain", 64

    def embed(self, texts, /, *, limit):
        return self._inner.embed(texts, limit=limit)


class Sure(Plain):
    """Its vectors are worth four times the words."""

    fusion = FusionOptions(constant=9.0, dense_weight=4.0)


@pytest.mark.parametrize(
    ("embedder", "options", "score"),
    [
        (HashingEmbedder(64), {}, 1.5 / 3),
        (Plain(), {}, 2 / 61),
        (Sure(), {}, 5 / 10),
        (Sure(), {"dense_weight": 0.0}, 1 / 10),
        (HashingEmbedder(64), {"lexical_weight": 0.0}, 0.5 / 3),
        (HashingEmbedder(64), {"fusion_constant": 60.0, "dense_weight": 1.0}, 2 / 61),
    ],
)
def test_rankings_are_merged_as_suits_the_embedder_where_nothing_is_said(
    tmp_path, embedder, options, score
):
    with open_index(tmp_path, embedder=embedder) as index:
        index.update(texts())
        best = index.retrieve("full moon tides", options=RetrievalOptions(**options)).chunks[0]
    assert (best.source, best.lexical_rank, best.dense_rank) == ("tides.md", 1, 1)
    assert best.score == pytest.approx(score)

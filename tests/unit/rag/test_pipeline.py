"""Questions to a model: its sources in the prompt, one request from search to answer."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time

import pytest

from engines import TINY, Recorder, tiny_engine
from rag_indexes import LIBRARY, open_index, texts
from smallmind import CancellationToken, ChatClient, ChatOptions, StopReason
from smallmind.rag import (
    DocumentError,
    GroundingRules,
    HashingEmbedder,
    InsufficientEvidenceError,
    PromptOptions,
    RagBudgetError,
    RagPipeline,
    RetrievalOptions,
    UserContext,
)
from smallmind.rag._answers import answer_of
from smallmind_engine.telemetry import (
    BatchStepped,
    InferenceStarted,
    InferenceStopped,
    OperationCancelledError,
    PrefillEnded,
    ReasonCode,
    RequestQueued,
    RetrievalEnded,
    RetrievalStarted,
    RuntimeLogEvent,
)
from smallmind_engine.telemetry.errors import ConfigError

BRIEF = PromptOptions(instructions="Answer from the sources.", titles=False)
GREEDY = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
# The tiny model's context is short, so one source has to do.
ONE = RetrievalOptions(top_k=1)
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with tiny_engine(tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.fixture
def index(tmp_path):
    with open_index(tmp_path, name="library") as made:
        made.update(texts(bread=["staff"]))
        yield made


@pytest.fixture
def pipeline(engine, index):
    return RagPipeline(engine, index, prompt=BRIEF, retrieval=ONE)


@pytest.fixture
def recorder(engine):
    made = Recorder()
    with engine.bus.subscribe(made):
        yield made


def of_requests(recorder):
    """All events but those of steps, which may serve several requests and have their own ids."""
    return [event for event in recorder.events if not isinstance(event, BatchStepped)]


def test_the_answer_is_the_models_for_a_prompt_with_the_source_in_it(engine, pipeline):
    answer = pipeline.ask("What do tides follow?", **GREEDY)
    (source,) = answer.sources
    assert (source.mark, source.source) == ("S1", "tides.md")
    message = (
        f'<sources>\n<source id="S1">\n[S1] {source.text}\n</source>\n</sources>\n\n'
        "<question>What do tides follow?</question>"
    )
    with engine.chat(BRIEF.instructions) as chat:
        expected = chat.send(message, **GREEDY)
    assert answer.result.token_ids == expected.token_ids
    assert answer.text == expected.text != ""
    assert answer.result.usage.prompt_tokens == expected.usage.prompt_tokens


@pytest.mark.parametrize("question", ["", " \n\t"])
@pytest.mark.parametrize("way", ["ask", "stream"])
def test_an_empty_question_is_refused_before_anything_is_searched(
    pipeline, recorder, way, question
):
    with pytest.raises(ConfigError, match="asks nothing") as caught:
        getattr(pipeline, way)(question, **GREEDY)
    assert caught.value.reason is ReasonCode.PROMPT_EMPTY
    assert of_requests(recorder) == []


def test_citations_resolve_to_the_exact_text_of_the_source(index, pipeline):
    (source,) = pipeline.ask("What do tides follow?", **GREEDY).sources
    assert index.resolve(source) == source.text == LIBRARY["tides.md"][source.start : source.end]
    assert index.document_text(source.collection, source.source) == LIBRARY["tides.md"]


def test_a_citation_of_a_changed_or_deleted_document_says_so(index, pipeline):
    (source,) = pipeline.ask("What do tides follow?", **GREEDY).sources
    index.update(texts({**LIBRARY, "tides.md": "Tides ebb."}))
    with pytest.raises(DocumentError, match="was changed") as caught:
        index.resolve(source)
    assert caught.value.reason is ReasonCode.RAG_SOURCE_CHANGED
    index.update(texts({}))
    with pytest.raises(DocumentError, match="no document"):
        index.resolve(source)


def test_a_citation_resolves_only_for_who_may_see_it(index, pipeline):
    ada = UserContext("ada", frozenset({"staff"}))
    (source,) = pipeline.ask("Why does dough rise?", user=ada, **GREEDY).sources
    assert index.resolve(source, user=ada) == source.text
    with pytest.raises(DocumentError, match="no document"):
        index.resolve(source)


def test_marks_of_the_answer_become_citations(pipeline):
    answer = pipeline.ask("What do tides follow?", **GREEDY)
    result = dataclasses.replace(answer.result, text="The moon [S1]. Or the sun [S4].")
    told = answer_of(result, answer.sources, answer.retrieval)
    assert told.citations == answer.sources
    assert told.unknown_marks == ("S4",)


def test_search_and_generation_are_one_request(pipeline, recorder):
    answer = pipeline.ask("What do tides follow?", traceparent=PARENT, session_id="talk", **GREEDY)
    kinds = [type(event) for event in recorder.events if not isinstance(event, RuntimeLogEvent)]
    order = (
        RetrievalStarted,
        RetrievalEnded,
        RequestQueued,
        InferenceStarted,
        PrefillEnded,
        InferenceStopped,
    )
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places)
    ids = answer.correlation
    assert (
        {event.correlation for event in of_requests(recorder)}
        == {ids}
        == {answer.retrieval.correlation}
    )
    assert (ids.trace_id, ids.span_id, ids.session_id) == (PARENT[3:35], PARENT[36:52], "talk")
    lines = [event.message for event in recorder.of(RuntimeLogEvent)]
    assert lines[:4] == [
        "the words were searched",
        "the vectors were searched",
        "the sources were chosen",
        "the prompt is composed",
    ]


def test_without_a_host_the_search_is_the_root_of_the_trace(pipeline, recorder):
    answer = pipeline.ask("What do tides follow?", request_id="mine", **GREEDY)
    search, generation = answer.retrieval.correlation, answer.correlation
    assert (search.has_parent, generation.has_parent) == (False, True)
    assert (search.trace_id, search.span_id) == (generation.trace_id, generation.span_id)
    assert {event.correlation.request_id for event in of_requests(recorder)} == {"mine"}
    assert search.session_id == generation.session_id


def test_nothing_good_enough_is_an_error_and_no_answer(pipeline, recorder):
    with pytest.raises(InsufficientEvidenceError) as caught:
        pipeline.ask("Who painted the Mona Lisa?", **GREEDY)
    assert caught.value.reason is ReasonCode.RAG_EVIDENCE_INSUFFICIENT
    assert not caught.value.details["retrieval"].sufficient
    assert recorder.of(RequestQueued) == []
    (ended,) = recorder.of(RetrievalEnded)
    assert ended.reason is ReasonCode.RAG_EVIDENCE_INSUFFICIENT
    warned = recorder.of(RuntimeLogEvent)[-1]
    assert (warned.reason, warned.component) == (ReasonCode.RAG_EVIDENCE_INSUFFICIENT, "rag")


def test_a_question_about_what_may_not_be_seen_has_no_evidence(pipeline):
    with pytest.raises(InsufficientEvidenceError):
        pipeline.ask("Why does dough rise?", **GREEDY)


def test_chunks_that_are_not_good_enough_are_left_out(engine, index):
    rules = GroundingRules(min_coverage=0.9, min_similarity=2.0)
    pipeline = RagPipeline(engine, index, prompt=BRIEF, rules=rules)
    answer = pipeline.ask("queen eggs", **GREEDY)
    assert len(answer.retrieval.chunks) == 2
    assert [source.source for source in answer.sources] == ["bees.md"]


def test_a_stream_gives_the_same_answer_and_can_be_left(engine, pipeline, recorder):
    expected = pipeline.ask("What do tides follow?", **GREEDY)
    with pipeline.stream("What do tides follow?", **GREEDY) as stream:
        assert stream.sources == expected.sources
        text = "".join(chunk.text for chunk in stream)
    assert text == expected.text == stream.answer.text
    recorder.events.clear()
    with pipeline.stream("What do tides follow?", **GREEDY) as stream:
        next(iter(stream))
    assert stream.answer.stop_reason is StopReason.CANCELLED_BY_CALLER
    assert len(recorder.of(InferenceStopped)) == 1


def test_cancelling_during_the_generation_keeps_what_there_is(pipeline):
    token = CancellationToken()
    answer = pipeline.ask(
        "What do tides follow?",
        **{**GREEDY, "max_tokens": 60},
        cancellation=token,
        on_token=lambda chunk: token.cancel() if chunk.index == 2 else None,
    )
    assert answer.stop_reason is StopReason.CANCELLED_BY_CALLER
    assert 0 < len(answer.result.token_ids) < 10


def test_asking_under_asyncio_gives_the_same_answer(pipeline):
    expected = pipeline.ask("What do tides follow?", **GREEDY)
    answer = asyncio.run(pipeline.aask("What do tides follow?", **GREEDY))
    assert answer.text == expected.text
    assert answer.sources == expected.sources


def test_cancelling_the_task_stops_the_request(pipeline, recorder):
    async def ask_and_leave():
        begun, left = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold(chunk):
            loop.call_soon_threadsafe(begun.set)
            left.wait(10.0)

        task = asyncio.ensure_future(
            pipeline.aask(
                "What do tides follow?",
                **{**GREEDY, "max_tokens": 60},
                on_token=hold,
            )
        )
        await begun.wait()
        task.cancel()
        # After the turn of the loop in which the task learns of it.
        loop.call_later(0.05, left.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask_and_leave())
    (stopped,) = recorder.of(InferenceStopped)
    assert stopped.reason is StopReason.CANCELLED_BY_CALLER


def test_cancelling_during_the_search_ends_it(engine, tmp_path, recorder):
    token = CancellationToken()

    class Cancelling(HashingEmbedder):
        def embed(self, texts, /, *, limit):
            token.cancel()
            return super().embed(texts)

    with open_index(tmp_path, embedder=Cancelling(64)) as index:
        pipeline = RagPipeline(engine, index, prompt=BRIEF)
        with pytest.raises(OperationCancelledError):
            pipeline.ask("bees", cancellation=token, **GREEDY)
    assert recorder.of(RequestQueued) == []


def test_the_timeout_holds_for_search_and_generation_together(engine, tmp_path, monkeypatch):
    given = []
    send = ChatClient.send

    def spying(client, text, *, options):
        given.append(options.request_timeout)
        return send(client, text, options=options)

    class Slow(HashingEmbedder):
        def embed(self, texts, /, *, limit):
            time.sleep(min(0.2, limit.remaining_s or 0.0))
            limit.check("embedding")
            return super().embed(texts)

    monkeypatch.setattr(ChatClient, "send", spying)
    with open_index(tmp_path, embedder=Slow(64)) as index:
        index.update(texts())
        pipeline = RagPipeline(engine, index, prompt=BRIEF, retrieval=ONE)
        with pytest.raises(OperationCancelledError) as caught:
            pipeline.ask("What do tides follow?", request_timeout=0.05, **GREEDY)
        assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT
        assert given == []
        pipeline.ask("What do tides follow?", request_timeout=60.0, **GREEDY)
    assert 0.0 < given[0] <= 59.8


def test_a_prompt_has_to_leave_room_for_the_answer(engine, index):
    with pytest.raises(RagBudgetError):
        RagPipeline(engine, index).ask("What do tides follow?", max_tokens=250)


def test_a_format_without_a_system_role_gets_the_rules_in_the_question(engine, index):
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    )
    chat = ChatOptions(template=template)
    pipeline = RagPipeline(engine, index, prompt=BRIEF, retrieval=ONE, chat=chat)
    assert pipeline.ask("What do tides follow?", **GREEDY).text


def test_only_searching_is_possible_too(pipeline, recorder):
    result = pipeline.retrieve("tides", request_id="mine")
    assert [chunk.source for chunk in result.chunks] == ["tides.md"]
    assert {event.correlation.request_id for event in recorder.events} == {"mine"}


def test_tokens_are_the_same_with_and_without_exporters(index, tmp_path):
    answers = []
    for exporters in ((), (Recorder(),)):
        with tiny_engine(tmp_path, TINY, exporters=exporters) as engine:
            pipeline = RagPipeline(engine, index, prompt=BRIEF, retrieval=ONE)
            answers.append(pipeline.ask("What do tides follow?", **GREEDY).result.token_ids)
    assert answers[0] == answers[1]

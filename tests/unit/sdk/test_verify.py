"""Recorded requests give the same tokens again, or the step is told at which they part."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder as RecorderOfAll
from engines import tiny_engine
from smallmind import CancellationToken, StopReason
from smallmind.replay import EventLog, Outcome, recorded_requests, verify, verify_request
from smallmind.structured import Choice, JsonSchema, Regex
from smallmind_engine.runtime.recording import prompt_digest
from smallmind_engine.telemetry import (
    ALL_KINDS,
    EventKind,
    RequestRecorded,
    TokenGenerated,
)
from smallmind_exporters.jsonl import JsonLinesExporter
from tiny_models import TinyModel, write_tiny_model


class Recorder(RecorderOfAll):
    interests = ALL_KINDS | EventKind.REQUEST_RECORDED


GREEDY = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
SAMPLED = {"max_tokens": 8, "temperature": 1.5, "ignore_eos": True}


def record(folder: Path, *, capture_content: bool = True, **options: object) -> list:
    """Run a few requests with the flight recorder on; answers with what the log tells of them."""
    path = folder / "events.jsonl"
    with (
        JsonLinesExporter(path, record_requests=True) as log,
        tiny_engine(folder, exporters=[log], capture_content=capture_content, **options) as engine,
    ):
        engine.generate("abc", **GREEDY)
        engine.generate("abc", **SAMPLED)
        engine.generate("ba", top_k=3, repetition_penalty=1.3, logit_bias={5: -1.5}, **SAMPLED)
        with engine.session() as session:
            session.generate("ab", seed=11, **SAMPLED)
            session.generate("ba", **SAMPLED)
        assert engine.flush()["jsonl"].complete
    return list(recorded_requests(EventLog.open(path).events()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def recorded(folder):
    return record(folder)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_greedy_seeded_and_session_requests_give_the_same_tokens_again(tmp_path, backend):
    requests = record(tmp_path, backend=backend)
    with tiny_engine(tmp_path, backend=backend) as engine:
        found = list(verify(requests, engine))
    assert [(each.outcome, each.tokens) for each in found] == [(Outcome.SAME, 8)] * 5
    assert all(each.recorded_reason is StopReason.MAX_TOKENS for each in found)
    assert all(not each.changed for each in found)


def test_the_seed_that_was_drawn_is_in_the_record(recorded):
    seeds = [each.record.seed for each in recorded]
    assert len(set(seeds[1:3])) == 2
    assert seeds[3] == 11


def test_the_first_step_that_differs_is_told_with_both_tokens(folder, recorded):
    changed = list(recorded[0].token_ids)
    changed[5] = (changed[5] + 1) % 50
    tampered = recorded[0].__class__(
        request_id="x",
        record=recorded[0].record,
        token_ids=tuple(changed),
        reason=recorded[0].reason,
        ended_by_itself=True,
    )
    with tiny_engine(folder) as engine:
        found = verify_request(tampered, engine)
        assert found.recorded_text == engine.detokenize([changed[5]])
    assert (found.outcome, found.step, found.tokens) == (Outcome.DIVERGED, 5, 5)
    assert (found.recorded, found.repeated) == (changed[5], recorded[0].token_ids[5])
    assert found.margin is not None
    assert found.margin > 0


def test_another_seed_diverges(folder, recorded):
    sampled = recorded[1]
    other = sampled.record._replace(seed=sampled.record.seed ^ 1)
    tampered = type(sampled)(
        request_id="x",
        record=other,
        token_ids=sampled.token_ids,
        reason=sampled.reason,
        ended_by_itself=True,
    )
    with tiny_engine(folder) as engine:
        assert verify_request(tampered, engine).outcome is Outcome.DIVERGED


def test_a_completion_that_goes_on_where_it_ended_diverges_there(folder, recorded):
    short = type(recorded[0])(
        request_id="x",
        record=recorded[0].record,
        token_ids=recorded[0].token_ids[:4],
        reason=StopReason.COMPLETED,
        ended_by_itself=True,
    )
    with tiny_engine(folder) as engine:
        found = verify_request(short, engine)
    assert (found.outcome, found.step, found.recorded) == (Outcome.DIVERGED, 4, None)


def test_another_model_is_not_comparable(tmp_path, recorded):
    write_tiny_model(tmp_path / "tiny.gguf", TinyModel("llama", scale=0.2, tied=True))
    with tiny_engine(tmp_path) as engine:
        found = verify_request(recorded[0], engine)
    assert found.outcome is Outcome.NOT_COMPARABLE
    assert "another model file" in found.why


def test_a_changed_setting_is_named(folder, recorded):
    other = "numpy" if recorded[0].record.backend == "numba" else "numba"
    with tiny_engine(folder, backend=other) as engine:
        found = verify_request(recorded[0], engine)
    assert ("backend", recorded[0].record.backend, other) in found.changed


def test_without_content_a_record_has_the_digest_of_the_prompt_only(tmp_path):
    requests = record(tmp_path, capture_content=False)
    for each in requests:
        assert each.record.prompt_ids is None
        assert each.record.stop is None
        assert set(each.token_ids) == {None}
    with tiny_engine(tmp_path) as engine:
        ids = engine.tokenize("abc", add_special=True)
        assert requests[0].record.prompt_sha256 == prompt_digest(ids)
        found = verify_request(requests[0], engine)
    assert found.outcome is Outcome.NOT_COMPARABLE
    assert "capture_content=True" in found.why


def test_without_token_events_it_says_what_to_record(tmp_path):
    requests = record(tmp_path, detail="request")
    with tiny_engine(tmp_path) as engine:
        assert "detail='token'" in verify_request(requests[0], engine).why


def test_a_request_that_was_cancelled_is_compared_as_far_as_it_got(tmp_path):
    recorder, token = Recorder(), CancellationToken()
    with tiny_engine(tmp_path, exporters=[recorder], capture_content=True) as engine:
        engine.generate("abc", cancellation=token, on_token=lambda _: token.cancel(), **GREEDY)
    (cut,) = recorded_requests(recorder.events)
    assert not cut.ended_by_itself
    with tiny_engine(tmp_path) as engine:
        found = verify_request(cut, engine)
    assert (found.outcome, found.tokens) == (Outcome.SAME, len(cut.token_ids))


def test_a_log_that_ends_in_the_middle_of_a_request_is_compared_up_to_there(tmp_path):
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], capture_content=True) as engine:
        engine.generate("abc", **GREEDY)
    third = [e for e in recorder.events if isinstance(e, TokenGenerated)][3]
    (cut,) = recorded_requests(recorder.events[: recorder.events.index(third)])
    assert (cut.reason, len(cut.token_ids)) == (None, 3)
    with tiny_engine(tmp_path) as engine:
        assert verify_request(cut, engine).outcome is Outcome.SAME


def test_tokens_whose_events_were_lost_are_unknown_rather_than_shifted(tmp_path):
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], capture_content=True) as engine:
        result = engine.generate("abc", **GREEDY)
    lost = [e for e in recorder.events if isinstance(e, TokenGenerated) and e.index in {2, 7}]
    kept = [event for event in recorder.events if event not in lost]
    (request,) = recorded_requests(kept)
    expected = [None if i in {2, 7} else t for i, t in enumerate(result.token_ids)]
    assert list(request.token_ids) == expected


def test_a_prompt_that_was_tampered_with_is_not_run(folder, recorded):
    first = recorded[0]
    forged = type(first)(
        request_id="x",
        record=first.record._replace(prompt_ids=(1, 2)),
        token_ids=first.token_ids,
        reason=first.reason,
        ended_by_itself=True,
    )
    with tiny_engine(folder) as engine:
        assert "digests differ" in verify_request(forged, engine).why


def test_no_record_is_made_while_nobody_wants_it(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("smallmind_engine.runtime.observer.recorded_request", refuse)
    with JsonLinesExporter(tmp_path / "e.jsonl") as log:
        with tiny_engine(tmp_path, exporters=[log]) as engine:
            engine.generate("abc", **GREEDY)
        assert not [e for e in EventLog.open(log.path).events() if type(e) is RequestRecorded]


def test_cancelling_stops_the_repetition(folder, recorded):
    token = CancellationToken()
    token.cancel()
    with tiny_engine(folder) as engine:
        assert verify_request(recorded[0], engine, cancellation=token).why == "it was cancelled"


def test_a_request_is_held_to_its_grammar_again(tmp_path):
    path = tmp_path / "events.jsonl"
    formats = [Regex("[a-z]{12}"), JsonSchema({"enum": [1, 2, "a"]}), Choice(["the", "and"])]
    with (
        JsonLinesExporter(path, record_requests=True) as log,
        tiny_engine(tmp_path, exporters=[log], capture_content=True, backend="numpy") as engine,
    ):
        for wanted in formats:
            engine.generate("abc", response_format=wanted, temperature=1.5, max_tokens=20)
        assert engine.flush()["jsonl"].complete
    recorded = list(recorded_requests(EventLog.open(path).events()))
    assert [each.options.response_format for each in recorded] == formats
    with tiny_engine(tmp_path, backend="numpy") as engine:
        verified = list(verify(recorded, engine))
    assert [each.outcome for each in verified] == [Outcome.SAME] * len(formats)


def test_a_grammar_is_recorded_by_its_kind_alone_without_content(tmp_path):
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], backend="numpy") as engine:
        engine.generate("abc", response_format=Regex("secret"), max_tokens=20)
    (record,) = recorder.of(RequestRecorded)
    assert (record.response_kind, record.response_format) == ("regex", None)
    assert not any("secret" in str(event) for event in recorder.events)

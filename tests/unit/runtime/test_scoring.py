"""Scores and perplexity are those of an independent reference."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import TINY, Recorder, tiny_engine
from reference_transformer import Reference
from smallmind import CancellationToken, Engine
from smallmind.reading import PerplexityOptions, ScoringOptions
from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.kernels import Chunk
from smallmind_engine.runtime.reading import target_logprobs
from smallmind_engine.runtime.reading.perplexity import windows_over
from smallmind_engine.sampling import row_logprobs
from smallmind_engine.telemetry import KVCacheLookup, ReasonCode, RuntimeLogEvent
from smallmind_engine.telemetry.errors import (
    ClosedError,
    ConfigError,
    ContextOverflowError,
    InferenceError,
    OperationCancelledError,
    TokenizerError,
)
from tiny_models import CONTEXT, TinyModel, write_tiny_model

PROMPT, CONTINUATION = "the and in", " the inn"


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, backend="numpy", exporters=[recorder]) as engine:
        yield engine


def reference_logprobs(engine: Engine, ids: list[int]) -> np.ndarray:
    """Log-probabilities of each token but the first, in float64."""
    logits = Reference(engine.model.path).logits(ids)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logprobs[np.arange(len(ids) - 1), ids[1:]]


# -- one continuation -------------------------------------------------------------------------


def test_each_token_has_the_log_probability_of_the_reference(engine: Engine) -> None:
    result = engine.score(PROMPT, CONTINUATION)
    ids = engine.tokenize(PROMPT + CONTINUATION)
    expected = reference_logprobs(engine, ids)[result.prompt_tokens - 1 :]
    np.testing.assert_allclose([t.logprob for t in result.tokens], expected, atol=1e-4)
    assert [t.token_id for t in result.tokens] == ids[result.prompt_tokens :]
    assert "".join(t.text for t in result.tokens) == CONTINUATION
    assert result.logprob == pytest.approx(expected.sum(), abs=1e-3)
    assert result.mean_logprob == pytest.approx(expected.mean(), abs=1e-4)
    assert result.perplexity == pytest.approx(math.exp(-expected.mean()), rel=1e-3)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_what_the_model_would_write_is_greedy_and_agrees_with_its_own_logprobs(
    tmp_path: Path, backend: str
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    with tiny_engine(tmp_path, backend=backend) as engine:
        ids = engine.tokenize(PROMPT)
        written = engine.generate(ids, temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=0)
        scored = engine.score(ids, written.token_ids)
        assert scored.greedy
        assert written.logprobs is not None
        np.testing.assert_allclose(
            [t.logprob for t in scored.tokens],
            [t.logprob for t in written.logprobs],
            atol=2e-3 if backend == "numba" else 1e-4,
        )
        changed = [*written.token_ids[:3], (written.token_ids[3] + 1) % 256]
        flags = [t.greedy for t in engine.score(ids, changed).tokens]
        assert flags == [True, True, True, False]


def test_many_rows_go_through_in_pieces_without_a_difference(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = engine.tokenize("the and in the inn " * 8)
    whole = engine.score(ids[:5], ids[5:])
    row_bytes = engine.model.spec.vocab_size * 4
    monkeypatch.setattr(target_logprobs, "_LOGIT_BYTES_AT_ONCE", 7 * row_bytes)
    engine.model.runner.prefill_chunk = 11
    pieces = engine.score(ids[:5], ids[5:])
    np.testing.assert_allclose(
        [t.logprob for t in pieces.tokens], [t.logprob for t in whole.tokens], atol=1e-4
    )
    long_prompt = engine.score(ids[:-3], ids[-3:])
    assert [t.token_id for t in long_prompt.tokens] == ids[-3:]
    np.testing.assert_allclose(
        [t.logprob for t in long_prompt.tokens],
        [t.logprob for t in whole.tokens[-3:]],
        atol=1e-4,
    )


def test_a_token_across_the_seam_belongs_to_the_continuation(engine: Engine) -> None:
    # "th" and "the" are tokens: apart the prompt would end in "t", and as a whole it does not.
    result = engine.score("an t", "he")
    ids = engine.tokenize("an the")
    assert [t.token_id for t in result.tokens] == ids[result.prompt_tokens :]
    assert "".join(t.text for t in result.tokens) == " the"


def test_texts_and_token_ids_may_be_mixed(engine: Engine) -> None:
    as_text = engine.score(PROMPT, CONTINUATION)
    ids = [t.token_id for t in as_text.tokens]
    for prompt, continuation in (
        (PROMPT, ids),
        (engine.tokenize(PROMPT), CONTINUATION),
        (engine.tokenize(PROMPT), ids),
    ):
        assert engine.score(prompt, continuation).tokens == as_text.tokens


def test_a_model_with_a_first_token_can_score_a_text_without_a_prompt(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, TinyModel(tokenizer="llama"), backend="numpy") as engine:
        result = engine.score("", "the")
        assert result.prompt_tokens == 1
        assert [t.token_id for t in result.tokens] == engine.tokenize("the")


@pytest.mark.parametrize(("prompt", "continuation"), [("", "the"), ("the", ""), ([], [5])])
def test_a_score_needs_a_token_before_and_one_to_score(
    engine: Engine, prompt: object, continuation: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.score(prompt, continuation)
    assert caught.value.reason is ReasonCode.PROMPT_EMPTY


def test_ids_outside_the_vocabulary_are_refused(engine: Engine) -> None:
    with pytest.raises(TokenizerError):
        engine.score("the", [10**6])


def test_what_does_not_fit_the_context_is_refused(engine: Engine) -> None:
    assert len(engine.score([5], [7] * (CONTEXT - 1)).tokens) == CONTEXT - 1
    with pytest.raises(ContextOverflowError, match=r"engine\.perplexity"):
        engine.score([5], [7] * CONTEXT)


def test_a_score_can_be_cancelled_and_is_logged_either_way(
    engine: Engine, recorder: Recorder
) -> None:
    done = engine.score(PROMPT, CONTINUATION, options=ScoringOptions(request_id="a"))
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        engine.score(PROMPT, CONTINUATION, cancellation=token, request_id="b")
    lines = [e for e in recorder.of(RuntimeLogEvent) if e.message == "scoring ended"]
    assert [(e.correlation.request_id, e.reason) for e in lines] == [
        ("a", ReasonCode.COMPLETED),
        ("b", ReasonCode.CANCELLED_BY_CALLER),
    ]
    assert done.correlation == lines[0].correlation
    assert engine.kv_tokens == (0, 0)


def test_the_async_twin_gives_the_same(engine: Engine) -> None:
    result = asyncio.run(engine.ascore(PROMPT, CONTINUATION))
    assert result.tokens == engine.score(PROMPT, CONTINUATION).tokens


def test_a_long_prompt_is_computed_once_for_all_its_continuations(
    tmp_path: Path, recorder: Recorder
) -> None:
    with tiny_engine(tmp_path, exporters=[recorder], kv_cache_type="f32") as engine:
        ids = engine.tokenize("the and in the inn " * 30)
        prompt = ids[:150]
        first = engine.score(prompt, ids[150:160])
        second = engine.score(prompt, ids[150:160])
        assert engine.score(prompt, ids[160:165]).tokens
        generated = engine.generate(prompt, max_tokens=2, temperature=0.0)
    lookups = [lookup.reused_tokens for lookup in recorder.of(KVCacheLookup)]
    assert lookups[0] == 0
    assert all(reused >= 2 * BLOCK_TOKENS for reused in lookups[1:])
    assert generated.usage.cached_tokens >= 2 * BLOCK_TOKENS
    np.testing.assert_allclose(
        [t.logprob for t in second.tokens], [t.logprob for t in first.tokens], atol=1e-4
    )


def test_what_was_scored_halfway_is_not_passed_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = engine.tokenize("the and in the inn " * 20)
    engine.model.runner.prefill_chunk = 64
    token = CancellationToken()
    forward = type(engine.model.runner).forward

    def cancelling(runner: object, chunks: list[Chunk], **options: object) -> object:
        if chunks[0].cache.length:  # the second step
            token.cancel()
        return forward(runner, chunks, **options)

    monkeypatch.setattr(type(engine.model.runner), "forward", cancelling)
    with pytest.raises(OperationCancelledError):
        engine.score(ids[:140], ids[140:150], cancellation=token)
    monkeypatch.undo()
    assert engine.stats().prefix_blocks == 0


def test_draining_waits_for_scores_and_turns_new_ones_away(engine: Engine) -> None:
    drained: list[bool] = []

    def on_progress(done: int, total: int) -> None:
        if not drained:
            drained.append(engine.drain(0.01))

    engine.perplexity([7] * 50, window=20, stride=10, on_progress=on_progress)
    assert drained == [False]
    assert engine.drain(5.0)
    with pytest.raises(ClosedError):
        engine.score("the", " and")


def test_a_closed_engine_scores_nothing(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    engine.close()
    with pytest.raises(ClosedError):
        engine.score("the", " and")


# -- rows of logits ---------------------------------------------------------------------------


def test_log_probabilities_of_rows_are_their_log_softmax() -> None:
    rng = np.random.default_rng(2)
    logits = (rng.standard_normal((40, 501)) * 8).astype(np.float32)
    targets = rng.integers(0, 501, 40)
    got = row_logprobs(logits, targets)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    expected = exact[np.arange(40), targets] - np.log(np.exp(exact).sum(axis=1))
    np.testing.assert_allclose(got.logprobs, expected, atol=2e-6)
    np.testing.assert_array_equal(got.likeliest, logits.argmax(axis=1))


def test_a_masked_target_is_impossible_and_broken_rows_are_an_error() -> None:
    logits = np.array([[0.0, -np.inf, 1.0]], np.float32)
    assert row_logprobs(logits, np.array([1])).logprobs[0] == -math.inf
    for bad in (np.nan, np.inf):
        logits[0, 1] = bad
        with pytest.raises(InferenceError):
            row_logprobs(logits, np.array([0]))


# -- perplexity -------------------------------------------------------------------------------


@given(
    n_tokens=st.integers(1, 200),
    size=st.integers(2, 40),
    data=st.data(),
    first=st.integers(0, 1),
)
def test_windows_score_every_token_once_and_see_enough_before_it(
    n_tokens: int, size: int, data: st.DataObject, first: int
) -> None:
    stride = data.draw(st.integers(1, size - 1))
    windows = list(windows_over(n_tokens, size, stride, first))
    scored = [place for w in windows for place in range(w.first, w.end)]
    assert scored == list(range(first, n_tokens))
    for window in windows[1:]:
        assert window.end - window.begin <= size
        assert window.first - window.begin >= size - stride


def test_perplexity_is_that_of_the_reference(engine: Engine) -> None:
    text = "the and in the inn " * 6
    ids = engine.tokenize(text)
    result = engine.perplexity(text)
    expected = reference_logprobs(engine, ids)
    assert result.tokens == len(ids) - 1
    assert result.windows == 1
    assert result.mean_logprob == pytest.approx(expected.mean(), abs=1e-4)
    assert result.perplexity == pytest.approx(math.exp(-expected.mean()), rel=1e-3)
    assert result.bits_per_byte == pytest.approx(
        -expected.sum() / math.log(2) / len(text.encode()), rel=1e-3
    )
    error = result.perplexity * expected.std(ddof=1) / math.sqrt(len(expected))
    assert result.standard_error == pytest.approx(error, rel=1e-3)


def test_perplexity_by_windows_is_that_of_the_reference(engine: Engine) -> None:
    ids = engine.tokenize("the and in the inn " * 6)
    result = engine.perplexity(ids, window=16, stride=6)
    parts = [
        reference_logprobs(engine, ids[w.begin : w.end])[w.first - w.begin - 1 :]
        for w in windows_over(len(ids), 16, 6, 1)
    ]
    assert result.windows == len(parts) > 3
    assert (result.window, result.stride, result.tokens) == (16, 6, len(ids) - 1)
    assert result.mean_logprob == pytest.approx(np.concatenate(parts).mean(), abs=1e-4)
    assert result.bits_per_byte is None


def test_every_window_begins_with_the_models_first_token(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, TinyModel(tokenizer="llama"), backend="numpy") as engine:
        ids = engine.tokenize("the and in abc " * 6)
        result = engine.perplexity(ids, window=9, stride=4)
        bos = engine.model.tokenizer.bos_id
        parts = [
            reference_logprobs(engine, [bos, *ids[w.begin : w.end]])[w.first - w.begin :]
            for w in windows_over(len(ids), 8, 4, 0)
        ]
        assert result.tokens == len(ids)
        assert result.mean_logprob == pytest.approx(np.concatenate(parts).mean(), abs=1e-4)


def test_progress_counts_tokens_to_the_end(engine: Engine) -> None:
    told: list[tuple[int, int]] = []
    result = engine.perplexity(
        [7] * 50, window=20, stride=10, on_progress=lambda *counts: told.append(counts)
    )
    assert told == [(19, 49), (29, 49), (39, 49), (49, 49)]
    assert result.tokens == 49


def test_perplexity_can_be_stopped_between_windows(engine: Engine) -> None:
    token = CancellationToken()
    with pytest.raises(OperationCancelledError):
        engine.perplexity(
            [7] * 90,
            window=20,
            stride=10,
            cancellation=token,
            on_progress=lambda *_: token.cancel(),
        )
    assert engine.kv_tokens == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"window": CONTEXT + 1},
        {"stride": 0},
        {"window": 8, "stride": 8},
        {"window": "8"},
    ],
)
def test_windows_that_cannot_be_are_named(engine: Engine, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.perplexity("the and in", **options)
    assert caught.value.reason is ReasonCode.OPTION_INVALID


def test_one_token_has_no_perplexity(engine: Engine) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.perplexity([7], options=PerplexityOptions())
    assert caught.value.reason is ReasonCode.PROMPT_EMPTY


def test_a_certain_model_has_perplexity_near_1(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY)
    with tiny_engine(path.parent) as engine:
        written = engine.generate([5], temperature=0.0, max_tokens=60, ignore_eos=True)
        own = engine.perplexity([5, *written.token_ids]).perplexity
        other = engine.perplexity([5, *written.token_ids[::-1]]).perplexity
    assert 1.0 <= own < other

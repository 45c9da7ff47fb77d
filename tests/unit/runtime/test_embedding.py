"""Texts become vectors: pooled, normalised, in batches, within limits, and told of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import PoolingType

from engines import FAMILIES, Recorder, tiny_engine
from reference_encoder import ReferenceEncoder
from smallmind import CancellationToken, DegradeReason, Engine, MemoryBudgetMode, load
from smallmind.reading import EmbeddingOptions, Pooling, Truncation
from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.memory import MemoryCategory
from smallmind_engine.runtime.reading import embedding
from smallmind_engine.telemetry import (
    Degraded,
    EmbeddingEnded,
    Event,
    ReasonCode,
    RequestStatus,
    new_correlation,
)
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ClosedError,
    ConfigError,
    ContextOverflowError,
    InferenceError,
    MemoryBudgetError,
    OperationCancelledError,
    SmallMindError,
    UnsupportedModelError,
)
from tiny_encoders import CONTEXT, WIDTH, TinyEncoder, write_tiny_encoder

TEXTS = ["The cat sat on the mat.", "unaffable", "", "playing, it runs!" * 2]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def encoder_engine(folder: Path, model: TinyEncoder | None = None, **options: object) -> Engine:
    path = folder / "encoder.gguf"
    if not path.exists():
        write_tiny_encoder(path, model)
    return load(path, **{"exporters": (), **options})


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with encoder_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def states_of(engine: Engine, text: str) -> np.ndarray:
    """What the reference makes of a text's tokens."""
    return ReferenceEncoder(engine.model.path).states(engine.tokenize(text, add_special=True))


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("mean", lambda states: states.mean(axis=0)),
        ("cls", lambda states: states[0]),
        ("last", lambda states: states[-1]),
    ],
)
def test_vectors_are_the_pooled_states_of_the_reference(
    engine: Engine, pooling: str, pooled: object
) -> None:
    result = engine.embed(TEXTS, pooling=pooling, normalize=False)
    assert (result.pooling, result.vectors.shape) == (pooling, (len(TEXTS), WIDTH))
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(result.of(index), pooled(states_of(engine, text)), atol=2e-5)


def test_without_pooling_each_token_keeps_its_vector(engine: Engine) -> None:
    result = engine.embed(TEXTS, pooling="none", normalize=False)
    assert result.token_counts == tuple(
        len(engine.tokenize(text, add_special=True)) for text in TEXTS
    )
    assert len(result.vectors) == result.prompt_tokens == sum(result.token_counts)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(result.of(index), states_of(engine, text), atol=2e-5)


def test_vectors_have_length_1_unless_told_otherwise(engine: Engine) -> None:
    plain = engine.embed(TEXTS, normalize=False)
    scaled = engine.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(scaled.vectors, axis=1), 1.0, atol=1e-6)
    lengths = np.linalg.norm(plain.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(scaled.vectors, plain.vectors / lengths, atol=1e-6)
    assert scaled.vectors.dtype == np.float32


def test_one_text_gives_one_row(engine: Engine) -> None:
    result = engine.embed("the cat")
    assert (result.vectors.shape, result.dimension) == ((1, WIDTH), WIDTH)
    np.testing.assert_array_equal(result.of(0), result.vectors[0])


def test_no_text_gives_no_row(engine: Engine) -> None:
    result = engine.embed([])
    assert (result.vectors.shape, result.prompt_tokens) == ((0, WIDTH), 0)


def test_batches_change_nothing_but_the_speed(engine: Engine) -> None:
    texts = [f"the cat {'sat ' * (n % 7)}on it {n}" for n in range(30)]
    together = engine.embed(texts).vectors
    engine.model.runner.prefill_chunk = 20
    np.testing.assert_allclose(engine.embed(texts).vectors, together, atol=1e-5)
    alone = np.concatenate([engine.embed(text).vectors for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (PoolingType.CLS, Pooling.CLS),
        (PoolingType.LAST, Pooling.LAST),
        (PoolingType.MEAN, Pooling.MEAN),
        (PoolingType.NONE, Pooling.MEAN),
        (None, Pooling.MEAN),
    ],
)
def test_the_file_says_how_to_pool(
    tmp_path: Path, said: PoolingType | None, expected: Pooling
) -> None:
    with encoder_engine(tmp_path, TinyEncoder(pooling=said)) as engine:
        assert engine.embed("the").pooling is expected


def test_a_model_that_ranks_pairs_has_no_vectors_of_its_own(tmp_path: Path) -> None:
    with encoder_engine(tmp_path, TinyEncoder(pooling=PoolingType.RANK)) as engine:
        with pytest.raises(UnsupportedModelError, match="name a pooling"):
            engine.embed("the")
        assert engine.embed("the", pooling="cls").vectors.shape == (1, WIDTH)


# -- decoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_decoders_embed_alike_on_all_backends(tmp_path: Path, backend: str) -> None:
    texts = ["the and in", "and", "in the " * 9]
    with tiny_engine(tmp_path, FAMILIES["llama"], backend="numpy") as engine:
        expected = engine.embed(texts).vectors
    if backend == "numba":
        pytest.importorskip("numba")
    options = {"backend": backend, "kv_cache_type": "f32"}
    with tiny_engine(tmp_path, FAMILIES["llama"], **options) as engine:
        result = engine.embed(texts)
        assert (result.backend, result.pooling) == (backend, Pooling.MEAN)
        # Compiled kernels quantise what goes into a product to 8 bits.
        np.testing.assert_allclose(result.vectors, expected, atol=1e-3)
        assert engine.kv_tokens == (0, 0)


def test_a_decoder_reads_a_text_longer_than_a_step_piece_by_piece(tmp_path: Path) -> None:
    text = "the and in " * 12
    with tiny_engine(tmp_path, backend="numpy") as engine:
        whole = engine.embed([text, "and"]).vectors
        engine.model.runner.prefill_chunk = 7
        np.testing.assert_allclose(engine.embed([text, "and"]).vectors, whole, atol=1e-5)


def test_texts_of_a_decoder_must_hold_a_token(tmp_path: Path) -> None:
    with tiny_engine(tmp_path) as engine, pytest.raises(ConfigError) as caught:
        engine.embed(["the", ""])
    assert (caught.value.reason, caught.value.details["index"]) == (ReasonCode.PROMPT_EMPTY, 1)


def test_a_strict_budget_makes_batches_smaller_and_then_refuses(tmp_path: Path) -> None:
    texts = ["the and"] * 6
    with tiny_engine(tmp_path, backend="numpy", max_prefix_tokens=0) as engine:
        expected = engine.embed(texts).vectors
        fixed = engine.model.memory_plan.demand.fixed_bytes
        block = BLOCK_TOKENS * engine.model.runner.kv_bytes_per_token
    with tiny_engine(
        tmp_path,
        backend="numpy",
        max_prefix_tokens=0,
        memory_budget_mode=MemoryBudgetMode.STRICT,
        max_memory_bytes=fixed + 2 * block,
    ) as engine:
        np.testing.assert_allclose(engine.embed(texts).vectors, expected, atol=1e-5)
        budget, emitter = engine._core.budget, engine.bus.emitter(new_correlation())
        budget.reserve(MemoryCategory.KV_CACHE, budget.free_bytes - block + 1, emitter)
        with pytest.raises(MemoryBudgetError):
            engine.embed(texts)


# -- too long, or otherwise wrong -------------------------------------------------------------


def test_a_text_that_is_too_long_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(ContextOverflowError, match="truncation='end'") as caught:
        engine.embed(["the", "the " * 100])
    assert caught.value.details["index"] == 1
    assert (caught.value.details["prompt_tokens"], caught.value.details["context_length"]) == (
        102,
        CONTEXT,
    )


@pytest.mark.parametrize("truncation", list(Truncation)[1:])
def test_a_cut_text_keeps_its_special_tokens_and_one_of_its_ends(
    engine: Engine, recorder: Recorder, truncation: Truncation
) -> None:
    long = "cat " * 5 + "the " * 100 + "mat " * 5
    kept = "cat " * 5 if truncation is Truncation.END else "mat " * 5
    cut = engine.embed(["it", long], truncation=truncation, max_tokens=7)
    assert (cut.truncated, cut.token_counts[1]) == ((1,), 7)
    np.testing.assert_allclose(cut.of(1), engine.embed(kept).of(0), atol=1e-5)
    (degraded,) = recorder.of(Degraded)[-1:]
    assert degraded.reason is DegradeReason.CONTEXT_TRUNCATION
    assert degraded.message == "1 of 2 texts were cut to 7 tokens"
    assert recorder.of(EmbeddingEnded)[0].truncated == 1


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "max"},
        {"truncation": "middle"},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 2, "truncation": "end"},
        {"request_timeout": 0.0},
        {"request_timeout": float("nan")},
        {"pool": "mean"},
    ],
)
def test_an_option_that_cannot_be_is_named(engine: Engine, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.embed("the cat sat", **options)
    assert caught.value.reason is ReasonCode.OPTION_INVALID
    assert next(iter(options)) in str(caught.value)


def test_what_is_no_text_is_named(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"texts\[1\] is 7"):
        engine.embed(["the", 7])


def test_options_may_be_given_whole(engine: Engine) -> None:
    whole = EmbeddingOptions(pooling=Pooling.CLS, normalize=False)
    np.testing.assert_array_equal(
        engine.embed("the", options=whole).vectors,
        engine.embed("the", pooling="cls", normalize=False).vectors,
    )


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    broken = np.full(WIDTH, np.nan, np.float32)
    model = TinyEncoder(tensors={"token_embd_norm.weight": broken})
    with encoder_engine(tmp_path, model) as engine, pytest.raises(InferenceError) as caught:
        engine.embed("the")
    assert caught.value.reason is ReasonCode.NON_FINITE_LOGITS


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.generate("the"),
        lambda engine: engine.choices("the", 2),
        lambda engine: engine.score("the", " cat"),
        lambda engine: engine.perplexity("the cat"),
    ],
)
def test_an_encoder_says_that_it_does_not_generate(engine: Engine, use: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"engine\.embed") as caught:
        use(engine)
    assert caught.value.reason is ReasonCode.MODEL_CANNOT_GENERATE


@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_encoders_are_handed_to_numpy_and_that_is_told(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("numba")
    recorder = Recorder()
    options = {"backend": backend, "exporters": [recorder], "kv_cache_type": "int8"}
    with encoder_engine(tmp_path, **options) as engine:
        assert engine.backend == "numpy"
        assert engine.embed("the").vectors.shape == (1, WIDTH)
    (degraded,) = recorder.of(Degraded)
    assert degraded.reason is DegradeReason.BACKEND_FALLBACK
    assert "encoders" in degraded.message


# -- stopping ---------------------------------------------------------------------------------


def test_a_cancelled_token_stops_it(engine: Engine, recorder: Recorder) -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError) as caught:
        engine.embed(TEXTS, cancellation=token)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_CALLER
    (ended,) = recorder.of(EmbeddingEnded)
    assert (ended.status, ended.reason) == (
        RequestStatus.CANCELLED,
        ReasonCode.CANCELLED_BY_CALLER,
    )


def test_cancelling_between_batches_stops_the_rest(engine: Engine) -> None:
    engine.model.runner.prefill_chunk = 8
    token = CancellationToken()
    seen: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            token.cancel()

    with pytest.raises(OperationCancelledError):
        engine.embed(["the cat sat on"] * 9, cancellation=token, on_progress=on_progress)
    assert seen == [(1, 9), (2, 9), (3, 9)]


def test_a_deadline_stops_it(engine: Engine, recorder: Recorder) -> None:
    with pytest.raises(OperationCancelledError) as caught:
        engine.embed(TEXTS * 50, request_timeout=1e-6)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT
    assert recorder.of(EmbeddingEnded)[0].reason is ReasonCode.CANCELLED_BY_TIMEOUT


def test_a_full_queue_turns_it_away(tmp_path: Path, recorder: Recorder) -> None:
    options = {"max_concurrent_requests": 1, "max_queue_depth": 0, "exporters": [recorder]}
    with encoder_engine(tmp_path, **options) as engine:

        def on_progress(done: int, total: int) -> None:
            del done, total
            with pytest.raises(BackpressureError):
                engine.embed("the")

        engine.embed("the", on_progress=on_progress)
    statuses = [ended.status for ended in recorder.of(EmbeddingEnded)]
    assert statuses == [RequestStatus.REJECTED, RequestStatus.COMPLETED]


def test_closing_the_engine_stops_it(tmp_path: Path) -> None:
    engine = encoder_engine(tmp_path)
    failures: list[SmallMindError] = []
    begun = threading.Event()

    def work() -> None:
        try:
            for _ in range(10_000):
                engine.embed(TEXTS * 20)
                begun.set()
        except SmallMindError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    engine.close()
    thread.join(30)
    assert isinstance(failures[0], OperationCancelledError | ClosedError)
    with pytest.raises(ClosedError):
        engine.embed("the")


def test_the_async_twin_gives_the_same_and_stops_with_its_task(engine: Engine) -> None:
    async def both() -> None:
        result = await engine.aembed(TEXTS)
        np.testing.assert_allclose(result.vectors, engine.embed(TEXTS).vectors, atol=1e-5)
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_progress(done: int, total: int) -> None:
            del done, total
            loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(
            engine.aembed(["the cat sat on the mat"] * 20_000, on_progress=on_progress)
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())


def test_threads_embed_at_once_and_get_what_they_asked_for(engine: Engine) -> None:
    expected = {text: engine.embed(text).of(0) for text in TEXTS}
    wrong: list[str] = []

    def work(text: str) -> None:
        found = [engine.embed(text).of(0) for _ in range(5)]
        if np.abs(np.array(found) - expected[text]).max() > 1e-5:
            wrong.append(text)

    threads = [threading.Thread(target=work, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


# -- telling ----------------------------------------------------------------------------------


def test_the_end_is_told_with_the_callers_ids(engine: Engine, recorder: Recorder) -> None:
    result = engine.embed(TEXTS, traceparent=TRACEPARENT, request_id="mine")
    (ended,) = recorder.of(EmbeddingEnded)
    assert (ended.status, ended.reason, ended.error_type) == (
        RequestStatus.COMPLETED,
        ReasonCode.COMPLETED,
        "",
    )
    assert (ended.texts, ended.tokens, ended.dimension) == (4, result.prompt_tokens, WIDTH)
    assert (ended.pooling, ended.backend, ended.truncated) == ("mean", "numpy", 0)
    assert ended.correlation == result.correlation
    assert result.correlation.request_id == "mine"
    assert result.correlation.trace_id == TRACEPARENT.split("-")[1]
    assert 0.0 <= ended.queue_s <= ended.duration_s
    assert result.duration_s <= ended.duration_s


def test_no_event_is_built_while_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Event:
        raise AssertionError

    monkeypatch.setattr(embedding, "EmbeddingEnded", refuse)
    with encoder_engine(tmp_path) as engine:
        engine.embed("the")

"""Each check passes on a sound model, and fails when a fault is put in."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import TINY
from smallmind import Engine, EngineOptions, load
from smallmind.validation import CHECKS, CheckStatus
from smallmind.validation.checks.tokenizer_fallbacks import check_fallbacks
from smallmind_engine.kernels import Chunk, FloatArray
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.tokenizers import TokenizerFactory, TokenizerMode
from tiny_models import TinyModel, random_tensors, write_tiny_model
from validation_faults import (
    FaultyLoader,
    FaultyTokenizer,
    logits_fault,
    subject_of,
    tokenizer_fault,
)

PASSED, FAILED, SKIPPED = CheckStatus.PASSED, CheckStatus.FAILED, CheckStatus.SKIPPED
LOADED_AGAIN = {"tokenizer-fallbacks", "backends"}


@pytest.mark.parametrize("kind", ["bpe", "token_table", "wordpiece"])
def test_a_sound_model_passes_what_applies_to_it(validated, kind):
    slow = () if kind == "bpe" else ("cancellation", "speed")
    report = validated(model=kind, options={"skip": slow})
    assert [result for result in report.results if result.status is FAILED] == []
    assert report.passed
    passed = {result.name for result in report.of(PASSED)}
    everyone = {"load", "tokenizer-round-trip", "special-tokens", "embeddings", "memory-budget"}
    assert everyone <= passed
    if kind == "wordpiece":
        assert report.result("kv-cache").message.startswith("the model is an encoder")
        return
    others = {check.name for check in CHECKS if not check.name.startswith("golden-")}
    assert passed | LOADED_AGAIN | set(slow) | {"chat-template", "batching"} >= others
    assert report.result("golden-greedy").message == "there is no golden file for this model"


@pytest.mark.parametrize("kind", ["bpe", "token_table", "wordpiece"])
def test_what_a_tokenizer_cannot_give_back_is_told(checked, kind):
    result = checked("tokenizer-round-trip", model=kind)
    assert result.status is PASSED
    assert result.figure("by design").value >= 1
    told = {"bpe": "a lone surrogate", "token_table": "sign for a space", "wordpiece": "changes"}
    assert told[kind] in result.message


def test_a_vocabulary_without_some_bytes_is_told_and_no_more(checked, tmp_path):
    few = dataclasses.replace(TINY, extra_tokens=())
    path = write_tiny_model(tmp_path / "tiny.gguf", few)
    lost = {
        "load": tokenizer_fault(
            lambda tokenizer: {
                "diagnostics": dataclasses.replace(tokenizer.diagnostics, missing_bytes=2),
                "encode": lambda text, **kw: tokenizer.encode(text.replace("x", ""), **kw),
            }
        )
    }
    result = checked("tokenizer-round-trip", model=path, **lost)
    assert result.status is PASSED
    assert "no token stands for 'x'" in result.message


# -- faults, one for each check ------------------------------------------------------------------


def _wrong_decoder(tokenizer: Any) -> dict[str, Any]:
    return {"decode": lambda ids, **kw: tokenizer.decode(ids, **kw).replace("e", "3")}


def _forging(tokenizer: Any) -> dict[str, Any]:
    def encode(text: str, **kw: Any) -> list[int]:
        return tokenizer.encode(text, **{**kw, "parse_special": True})

    return {"encode": encode}


def _noise(rng: np.random.Generator) -> Any:
    return lambda row, _: row + rng.normal(0, 1e-2, row.shape).astype(np.float32)


def _only_when_decoding(row: FloatArray, chunk: Chunk) -> FloatArray:
    ramp = np.arange(row.shape[-1], dtype=np.float32)
    return row + ramp if len(chunk.token_ids) == 1 else row


class InCompany:
    """Spoils logits while several requests are under way."""

    def __init__(self) -> None:
        self._caches: set[int] = set()

    def __call__(self, row: FloatArray, chunk: Chunk) -> FloatArray:
        busy = [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
        return row[..., ::-1].copy() if busy else row


def _second_turn(row: FloatArray, chunk: Chunk) -> FloatArray:
    """Spoils what follows a prompt that was read into a cache with something in it."""
    fresh = chunk.cache.length == len(chunk.token_ids)
    return row if fresh or len(chunk.token_ids) == 1 else row[..., ::-1].copy()


def _no_stops(engine: Engine) -> Engine:
    generate = engine.generate
    engine.generate = lambda prompt, **kw: generate(  # type: ignore[method-assign]
        prompt, **{**kw, "stop": ()}
    )
    return engine


LOADED = {
    "tokenizer-round-trip": tokenizer_fault(_wrong_decoder),
    "special-tokens": tokenizer_fault(_forging),
    "finite-logits": logits_fault(lambda row, _: row * 0),
    "kv-cache": logits_fault(_only_when_decoding),
    "determinism": logits_fault(_noise(np.random.default_rng(1))),
    "batching": logits_fault(InCompany()),
    "session-reuse": logits_fault(_second_turn),
    "prefix-sharing": logits_fault(_second_turn),
    "stop-sequences": lambda path, **kw: _no_stops(load(path, **kw)),
    "chat-template": FaultyLoader(lambda _: {"chat_template": "{{ messages[0]['content'] }}"}),
    "embeddings": logits_fault(_noise(np.random.default_rng(2))),
}
"""A loader with a fault for each of these checks."""


@pytest.mark.parametrize("name", LOADED)
def test_a_fault_fails_its_check(checked, name):
    result = checked(name, load=LOADED[name])
    assert result.status is FAILED, result.message
    assert result.reason is ReasonCode.VALIDATION_FAILED
    assert result.message


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"backend": "numpy"}, "the numpy backend runs one request in a step"),
        ({"backend": "numba", "max_batch_size": 1}, "max_batch_size is 1"),
    ],
)
def test_batching_is_left_out_where_nothing_is_ever_batched(checked, options, why):
    result = checked("batching", engine_options=EngineOptions(**options))
    assert (result.status, result.message) == (SKIPPED, f"nothing was batched: {why}")


def test_batching_holds_where_requests_share_steps(checked):
    result = checked("batching", engine_options=EngineOptions(backend="numba"))
    assert (result.status, result.figure("different").value) == (PASSED, 0)


def test_weights_that_are_not_numbers_fail_with_the_layer_and_the_code(validated, tmp_path):
    broken = random_tensors(TINY)["blk.1.ffn_up.weight"]
    broken[3, 4] = np.nan
    path = write_tiny_model(
        tmp_path / "nan.gguf",
        dataclasses.replace(TINY, tensors={"blk.1.ffn_up.weight": broken}),
    )
    report = validated("finite-logits", "determinism", "embeddings", "speed", model=path)
    assert "from layer 1 on" in report.result("finite-logits").message
    for name in ("determinism", "speed", "embeddings"):
        result = report.result(name)
        assert (result.status, result.reason) == (FAILED, ReasonCode.NON_FINITE_LOGITS)
        assert result.error_type == "InferenceError"
    assert not report.passed


def test_a_cancellation_that_is_not_heard_fails(checked, monkeypatch):
    monkeypatch.setattr("smallmind.validation.checks.cancellation._ROUNDS", 1)

    def deaf(path: Path, **kwargs: Any) -> Engine:
        engine = load(path, **kwargs)
        generate = engine.generate

        def ignoring(prompt: Any, **options: Any) -> Any:
            done = generate(prompt, **{**options, "cancellation": None})
            token = options["cancellation"]
            reached = token is not None and token.is_cancelled
            return dataclasses.replace(done, stop_reason="CONTEXT_FULL") if reached else done

        engine.generate = ignoring  # type: ignore[method-assign]
        return engine

    result = checked("cancellation", load=deaf)
    assert result.status is FAILED
    assert "a cancelled request ended by CONTEXT_FULL" in result.message


def test_a_cancellation_that_takes_too_long_fails(checked, monkeypatch):
    from smallmind.validation.checks import cancellation

    monkeypatch.setattr(cancellation, "_ROUNDS", 1)
    monkeypatch.setattr(cancellation, "_stretch", lambda: 1.0)
    monkeypatch.setattr(cancellation, "_slowest_token_s", lambda *_: 0.0)
    result = checked("cancellation", options={"max_cancel_latency": 1e-9})
    assert result.status is FAILED
    assert result.message.startswith("p99 ")
    assert result.figure("p99").value > 0.0


def test_a_budget_that_does_not_refuse_fails(checked):
    def generous(path: Path, *, options: Any, **kwargs: Any) -> Engine:
        return load(path, options=dataclasses.replace(options, max_memory_bytes=None), **kwargs)

    result = checked("memory-budget", load=generous)
    assert result.status is FAILED
    assert "were enough for a model that takes" in result.message


def test_a_budget_that_is_asked_too_late_fails(checked):
    taken = []

    def hasty(path: Path, *, options: Any, **kwargs: Any) -> Engine:
        if options.max_memory_bytes is not None:
            taken.append(np.ones(32 << 20))
        return load(path, options=options, **kwargs)

    result = checked("memory-budget", load=hasty)
    assert result.status is FAILED
    assert "taken meanwhile" in result.message


def test_a_refusal_tells_what_was_wanted_of_each_kind(checked):
    result = checked("memory-budget")
    assert result.status is PASSED
    assert "weights" in result.message
    assert result.figure("wanted").value > result.figure("budget").value


def test_backends_that_disagree_fail(checked):
    sound = checked("backends")
    assert sound.status is PASSED
    assert sound.figure("numba drift").value < 0.05
    swapped = logits_fault(lambda row, _: row[..., ::-1].copy(), backend="numba")
    result = checked("backends", load=swapped)
    assert result.status is FAILED
    assert "numba margin" in result.message


def test_a_backend_that_is_missing_is_a_skip_with_a_reason(checked):
    from smallmind_engine.telemetry.errors import MissingExtraError

    def without_numba(path: Path, *, options: Any, **kwargs: Any) -> Engine:
        if options.backend == "numba":
            raise MissingExtraError("fast", "the backend 'numba'")
        return load(path, options=options, **kwargs)

    result = checked("backends", load=without_numba)
    assert (result.status, result.reason) == (SKIPPED, ReasonCode.EXTRA_MISSING)
    assert "smallmind[fast]" in result.message


def test_floors_of_speed_hold_or_fail(checked):
    unhurried = checked("speed", options={"min_decode_speed": 0.01, "min_prefill_speed": 0.01})
    assert unhurried.status is PASSED
    impossible = checked("speed", options={"min_decode_speed": 1e12})
    assert impossible.status is FAILED
    assert "at least 1e+12" in impossible.message
    assert impossible.figure("prefill").at_least is None


@pytest.mark.parametrize("kind", ["bpe", "token_table"])
def test_fallbacks_are_told_and_lose_nothing(checked, kind):
    result = checked("tokenizer-fallbacks", model=kind)
    assert result.status is PASSED, result.message
    assert result.figure("fallbacks").value >= 4


def _silent(metadata: Any, **kwargs: Any) -> Any:
    tokenizer = TokenizerFactory.create(metadata, **kwargs)
    return FaultyTokenizer(
        tokenizer, diagnostics=dataclasses.replace(tokenizer.diagnostics, issues=())
    )


def _lenient(metadata: Any, *, strict: bool = False, **kwargs: Any) -> Any:
    return TokenizerFactory.create(metadata, **kwargs)


def _lossy(metadata: Any, *, mode: TokenizerMode, **kwargs: Any) -> Any:
    tokenizer = TokenizerFactory.create(metadata, mode=mode, **kwargs)
    lossy = mode is TokenizerMode.BYTE
    return FaultyTokenizer(tokenizer, **_wrong_decoder(tokenizer)) if lossy else tokenizer


@pytest.mark.parametrize(
    ("create", "told"),
    [
        (_silent, "TOKENIZER_MERGES_MISSING is not told"),
        (_lenient, "not refused in strict mode"),
        (_lossy, "as bytes: "),
    ],
)
def test_fallbacks_that_go_wrong_fail(models, create, told):
    with load(models["bpe"], backend="numpy", exporters=()) as engine:
        outcome = check_fallbacks(subject_of(engine, models["bpe"]), create)
    assert outcome.status is FAILED
    assert told in outcome.message


def test_a_context_without_room_skips_what_needs_it(validated, tmp_path):
    path = write_tiny_model(tmp_path / "short.gguf", TinyModel(context=16, scale=0.35, tied=False))
    report = validated(model=path)
    assert report.of(FAILED) == ()
    assert report.result("session-reuse").message == "the context of 16 is too short"
    assert report.result("prefix-sharing").status is SKIPPED

"""The runner of compiled kernels: quantised weights, the best token only, long prompts, threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

from reference_transformer import Reference
from smallmind_engine.cache import KVType
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    BestToken,
    Chunk,
    LogitsWanted,
    PrepareRequest,
    WeightsMode,
    get_backend,
)
from smallmind_engine.kernels.backend import Output
from smallmind_engine.model import GgufWeights, transformer_spec
from smallmind_engine.telemetry.errors import ConfigError, OperationCancelledError
from tiny_models import WIDTH, TinyModel, vocabulary, write_tiny_model
from tiny_runners import numba_runner_for

pytest.importorskip("numba")

from smallmind_engine.kernels.numba_backend.emit.matmul import TOKENS_AT_ONCE
from smallmind_engine.kernels.numba_backend.emit.screening import _CHECKED
from smallmind_engine.kernels.numba_backend.records import LINE_WORDS, OUTLIERS, Outlier
from smallmind_engine.kernels.numba_backend.runner import NumbaRunner

IDS = [3 + (i * 37) % 256 for i in range(80)]


def rows(runner: NumbaRunner, ids: list[int]) -> np.ndarray:
    cache = runner.new_cache(len(ids))
    return runner.forward([Chunk(np.array(ids), cache, LogitsWanted.ALL)])[0]


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Root of the mean squared difference, as a share of the spread of what is expected."""
    return float(np.sqrt(np.mean((got - expected) ** 2)) / expected.std())


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose output matrix is stored in two halves."""
    folder = tmp_path_factory.mktemp("split")
    return write_tiny_model(folder / "tiny.gguf", TinyModel(scale=0.35, qtype=Quant.Q8_0))


@pytest.mark.parametrize("qtype", [Quant.Q4_0, Quant.Q4_1, Quant.Q5_0, Quant.Q5_1, Quant.Q8_0])
def test_quantised_weights_give_nearly_the_logits_of_the_float64_reference(
    tmp_path: Path, qtype: Quant
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", TinyModel(qtype=qtype))
    expected = Reference(path).logits(IDS[:24])
    got = rows(numba_runner_for(path), IDS[:24])
    # Inputs are rounded to a 127th of the largest of 32: about half a percent of their size.
    assert error(got, expected) < 0.05


@pytest.mark.parametrize("kv_type", list(KVType))
def test_smaller_caches_give_nearly_the_same(split: Path, kv_type: KVType) -> None:
    exact = rows(numba_runner_for(split), IDS)
    got = rows(numba_runner_for(split, kv_type), IDS)
    assert error(got, exact) < 0.1
    assert numba_runner_for(split, kv_type).kv_type is kv_type


def test_the_best_token_is_the_highest_of_all_logits(split: Path) -> None:
    runner = numba_runner_for(split)
    one, other = runner.new_cache(200), runner.new_cache(200)
    for token in (IDS * 2)[:150]:
        (logits,) = runner.forward([Chunk(np.array([token]), one, LogitsWanted.LAST)])
        (best,) = runner.forward([Chunk(np.array([token]), other, LogitsWanted.BEST)])
        assert isinstance(best, BestToken)
        assert best.token_id == int(np.argmax(logits))
        assert np.float32(best.logit) == logits.max()
    assert runner._search.searches > 0
    assert runner._search.doubts == 0


def test_a_search_that_is_in_doubt_is_not_trusted(split: Path) -> None:
    runner = numba_runner_for(split)
    runner._search.doubts = 100
    (best,) = runner.forward([Chunk(np.array([5]), runner.new_cache(4), LogitsWanted.BEST)])
    assert isinstance(best, BestToken)
    assert runner._search.searches == 0


def test_several_sequences_have_their_best_tokens_found_in_one_step(split: Path) -> None:
    runner = numba_runner_for(split)
    starts = [7, 50, 90]
    caches = [runner.new_cache(4) for _ in starts]
    together = runner.forward(
        [
            Chunk(np.array([start]), cache, LogitsWanted.BEST)
            for start, cache in zip(starts, caches, strict=True)
        ]
    )
    for start, best in zip(starts, together, strict=True):
        (alone,) = runner.forward(
            [Chunk(np.array([start]), runner.new_cache(4), LogitsWanted.BEST)]
        )
        assert best == alone


@pytest.mark.parametrize("qtype", [Quant.Q8_0, Quant.Q4_1, Quant.F16])
@pytest.mark.parametrize("count", [1, 5, 16, 32, 33])
def test_sequences_in_one_step_get_the_best_of_their_own_logits(
    tmp_path: Path, qtype: Quant, count: int
) -> None:

    model = TinyModel(qtype=qtype, scale=0.35)
    runner = numba_runner_for(write_tiny_model(tmp_path / "tiny.gguf", model))

    def step(wanted: LogitsWanted) -> list[Output]:
        caches = [runner.new_cache(8) for _ in range(count)]
        prompts = [np.array(IDS[index % 9 : index % 9 + 1 + index % 3]) for index in range(count)]
        return runner.forward(
            [Chunk(prompt, cache, wanted) for prompt, cache in zip(prompts, caches, strict=True)]
        )

    for best, logits in zip(step(LogitsWanted.BEST), step(LogitsWanted.LAST), strict=True):
        assert best == BestToken(int(np.argmax(logits)), float(logits.max()))


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_undecided_tokens_are_searched_together(tmp_path: Path, count: int) -> None:
    names = tuple(f"<extra_{number}>" for number in range(2000))
    rng = np.random.default_rng(3)
    shape = (len(vocabulary()) + len(names), WIDTH)
    # Rows that differ by less than the lower halves of their codes may amount to.
    alike = (rng.normal(0, 1, WIDTH) + rng.normal(0, 0.05, shape)).astype(np.float32)
    tensors = {"output.weight": alike}
    model = TinyModel(qtype=Quant.Q8_0, tied=False, extra_tokens=names, tensors=tensors)
    runner = numba_runner_for(write_tiny_model(tmp_path / "tiny.gguf", model))

    def step(wanted: LogitsWanted) -> list[Output]:
        chunks = [
            Chunk(np.array(IDS[index : index + 2]), runner.new_cache(8), wanted)
            for index in range(count)
        ]
        return runner.forward(chunks)

    for best, logits in zip(step(LogitsWanted.BEST), step(LogitsWanted.LAST), strict=True):
        assert best == BestToken(int(np.argmax(logits)), float(logits.max()))
    buffers = runner._search.buffers
    computed = sum(buffers.doubt_words[1::LINE_WORDS])
    assert computed > buffers.groups // 2
    assert computed <= 2 * _CHECKED * count + buffers.groups * -(-count // TOKENS_AT_ONCE)


@pytest.mark.parametrize("count", [2, 9, 32])
def test_the_largest_inputs_of_several_tokens_are_taken_in_full(tmp_path: Path, count: int) -> None:
    outliers = [3, 41]
    norm = np.ones(WIDTH, np.float32)
    norm[outliers] = 30.0
    model = TinyModel(qtype=Quant.Q8_0, tensors={"output_norm.weight": norm})
    runner = numba_runner_for(write_tiny_model(tmp_path / "tiny.gguf", model))
    chunks = [
        Chunk(np.array([IDS[index]]), runner.new_cache(4), LogitsWanted.BEST)
        for index in range(count)
    ]
    found = runner.forward(chunks)
    for index, best in enumerate(found):
        (row,) = runner.forward(
            [Chunk(np.array([IDS[index]]), runner.new_cache(4), LogitsWanted.LAST)]
        )
        assert best == BestToken(int(np.argmax(row)), float(row.max()))
    search = runner._search
    assert search.doubts == 0
    for record in search.buffers.outliers:
        inputs = record[: OUTLIERS * len(Outlier)].reshape(OUTLIERS, -1)[:, Outlier.INPUT]
        assert set(outliers) < set(inputs.tolist())
        assert len(set(inputs.tolist())) == OUTLIERS


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("value", "inputs", "is_seen"),
    [
        (np.nan, slice(None), np.isnan),
        (np.nan, 9, np.isnan),
        (np.inf, 9, lambda row: ~np.isfinite(row)),
    ],
)
def test_a_model_with_what_is_no_number_gives_rows_rather_than_best_tokens(
    tmp_path: Path,
    count: int,
    value: float,
    inputs: int | slice,
    is_seen: Callable[[np.ndarray], np.ndarray],
) -> None:
    weights = np.ones(64, np.float32)
    weights[inputs] = value
    model = TinyModel(qtype=Quant.Q8_0, tensors={"output_norm.weight": weights})
    runner = numba_runner_for(write_tiny_model(tmp_path / "tiny.gguf", model))
    chunks = [Chunk(np.array([5]), runner.new_cache(4), LogitsWanted.BEST) for _ in range(count)]
    for row in runner.forward(chunks):
        assert isinstance(row, np.ndarray)
        assert is_seen(row).all()


def test_a_prompt_of_eight_thousand_tokens_needs_no_more_scratch_than_a_short_one(
    split: Path,
) -> None:
    runner = numba_runner_for(split, KVType.F16)
    ids = np.resize(np.array(IDS), 8192)
    rows(runner, IDS * 8)
    before = runner.scratch_bytes
    cache = runner.new_cache(len(ids))
    (logits,) = runner.forward([Chunk(ids, cache, LogitsWanted.LAST)])
    assert np.isfinite(logits).all()
    assert cache.length == len(ids)
    assert runner.scratch_bytes == before


def test_threads_take_turns_and_do_not_touch_each_other(split: Path) -> None:
    runner = numba_runner_for(split)
    expected = rows(runner, IDS)
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = rows(runner, IDS)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        np.testing.assert_array_equal(found[number], expected)


def test_a_cancelled_step_leaves_the_cache_as_it_was(split: Path) -> None:
    runner = numba_runner_for(split)
    cache = runner.new_cache(64)
    runner.forward([Chunk(np.array(IDS[:5]), cache, LogitsWanted.NONE)])
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        runner.forward(
            [Chunk(np.array(IDS[:50]), cache, LogitsWanted.LAST)], limit=WorkLimit(token)
        )
    assert cache.length == 5


def test_pages_go_back_to_the_pool(split: Path) -> None:
    runner = numba_runner_for(split)
    cache = runner.new_cache(130)
    assert runner._pool.lent == 3
    cache.release()
    assert runner._pool.lent == 0
    assert runner._pool.high_water == 3
    again = runner.new_cache(64)
    assert runner._pool.nbytes == 3 * runner._pool.page_bytes
    del again
    assert runner._pool.lent == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_computes_with_threads_of_its_own(split: Path) -> None:
    runner = numba_runner_for(split)
    expected = rows(runner, IDS).tobytes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        same = rows(runner, IDS).tobytes() == expected
        os.write(writer, b"same" if same else b"other")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"same"
    os.close(reader)
    os.waitpid(child, 0)


def test_weights_on_disk_are_not_for_this_backend(split: Path) -> None:
    file = GgufFile.open(split)
    source = GgufWeights(file)
    spec = transformer_spec(file.metadata, source)
    with pytest.raises(ConfigError, match="resident"):
        get_backend("numba").prepare(spec, source, PrepareRequest(mode=WeightsMode.PER_LAYER))


def test_a_closed_runner_has_let_go_of_its_threads(split: Path) -> None:
    runner = numba_runner_for(split)
    rows(runner, IDS[:4])
    runner.close()

    assert runner.scratch_bytes == 0

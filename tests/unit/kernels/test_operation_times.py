"""What the operations of a step are told to have taken, read and computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallmind_engine.cache import KVType
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
from smallmind_engine.kernels.attention_span import attention_span
from smallmind_engine.model import GgufWeights, transformer_spec
from tiny_models import FAMILIES, FFN, HEAD_DIM, HEADS, KV_HEADS, WIDTH, write_tiny_model

IDS = [3 + (i * 37) % 256 for i in range(40)]
BLOCKS = ["attention_block", "ffn_block"]
OPERATIONS = [
    "attention_norm",
    "qkv",
    "rotate",
    "attention",
    "attention_output",
    "ffn_norm",
    "up",
    "down",
]
Prepare = Callable[..., ModelRunner]


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Makes a runner on a backend for a family of tiny models."""

    def runner(backend: str, family: str = "llama", kv_type: KVType = KVType.F32) -> ModelRunner:
        path = write_tiny_model(tmp_path / f"{family}.gguf", FAMILIES[family])
        file = GgufFile.open(path)
        source = GgufWeights(file)
        request = PrepareRequest(mode=WeightsMode.RESIDENT, kv_type=kv_type, threads=2)
        spec = transformer_spec(file.metadata, source)
        return get_backend(backend).prepare(spec, source, request)

    return runner


def step(
    runner: ModelRunner, *before: int, new: int = 1, logits: LogitsWanted = LogitsWanted.LAST
) -> tuple[list[OperationTime], list[object]]:
    """Run a step over sequences with so many tokens in their caches."""
    chunks = []
    for count in before:
        cache = runner.new_cache(count + new)
        if count:
            runner.forward([Chunk(np.array(IDS[:count]), cache, LogitsWanted.NONE)])
        chunks.append(Chunk(np.array(IDS[count : count + new]), cache, logits))
    told: list[OperationTime] = []
    outputs = runner.forward(chunks, on_operations=told.extend)
    return told, list(outputs)


def named(told: list[OperationTime], op: str, layer: int | None = 0) -> OperationTime:
    (found,) = (each for each in told if each.op == op and each.layer == layer)
    return found


# -- both backends ------------------------------------------------------------------------------


def test_every_operation_is_told_in_the_order_in_which_it_ran(
    backend: str, prepare: Prepare
) -> None:
    told, _ = step(prepare(backend), 5)
    names = OPERATIONS if backend == "numba" else BLOCKS
    expected = [(name, layer) for layer in range(2) for name in names]
    assert [(each.op, each.layer) for each in told] == [*expected, ("output", None)]
    assert all(each.tokens == 1 and each.seconds >= 0 for each in told)
    assert sum(each.seconds for each in told) > 0
    assert all(each.n_bytes > 0 and each.flops > 0 for each in told)


def test_without_logits_there_is_no_output_projection(backend: str, prepare: Prepare) -> None:
    told, outputs = step(prepare(backend), 0, new=7, logits=LogitsWanted.NONE)
    assert outputs == [None]
    assert {each.layer for each in told} == {0, 1}
    assert {each.tokens for each in told} == {7}


def test_rows_of_all_sequences_count(backend: str, prepare: Prepare) -> None:
    told, _ = step(prepare(backend), 2, 9, new=3, logits=LogitsWanted.ALL)
    assert {each.tokens for each in told} == {6}
    last, _ = step(prepare(backend), 2, 9, new=3, logits=LogitsWanted.LAST)
    assert named(last, "output", None).tokens == 2


def test_being_timed_changes_no_result(backend: str, prepare: Prepare) -> None:
    runner = prepare(backend)
    _, timed = step(runner, 5, new=20, logits=LogitsWanted.ALL)
    cache = runner.new_cache(25)
    runner.forward([Chunk(np.array(IDS[:5]), cache, LogitsWanted.NONE)])
    (plain,) = runner.forward([Chunk(np.array(IDS[5:25]), cache, LogitsWanted.ALL)])
    np.testing.assert_array_equal(timed[0], plain)


def test_the_flops_of_a_whole_step_are_those_of_its_weights_and_pairs(
    backend: str, prepare: Prepare
) -> None:
    told, _ = step(prepare(backend), 5, new=3, logits=LogitsWanted.NONE)
    attention = WIDTH * HEAD_DIM * (2 * HEADS + 2 * KV_HEADS)
    pairs = 6 + 7 + 8
    exact = 2 * 3 * (attention + 3 * WIDTH * FFN) + 4 * HEADS * HEAD_DIM * pairs
    names = BLOCKS if backend == "numpy" else ["qkv", "attention", "attention_output", "up", "down"]
    assert sum(each.flops for each in told if each.op in names) == 2 * exact


# -- compiled kernels ---------------------------------------------------------------------------


def test_products_read_their_packed_weights_once(prepare: Prepare) -> None:
    pytest.importorskip("numba")
    runner = prepare("numba")
    one, _ = step(runner, 5)
    many, _ = step(runner, 5, new=20, logits=LogitsWanted.NONE)
    weights = FFN * WIDTH * 2 * 4
    assert named(one, "up").n_bytes == weights + WIDTH * 4
    assert named(many, "up").n_bytes == weights + 20 * WIDTH * 4
    assert named(one, "up").quantization == "F32"


@pytest.mark.parametrize(
    ("kind", "item", "factor"), [(KVType.F32, 4, 0), (KVType.F16, 2, 0), (KVType.INT8, 1, 4)]
)
def test_attention_reads_the_cache_as_it_is_stored(
    prepare: Prepare, kind: KVType, item: int, factor: int
) -> None:
    pytest.importorskip("numba")
    told, _ = step(prepare("numba", kv_type=kind), 30)
    attention = named(told, "attention")
    position = 2 * KV_HEADS * (HEAD_DIM * item + factor)
    assert attention.n_bytes == 31 * position + HEADS * HEAD_DIM * 4
    assert attention.quantization == kind.name


def test_a_window_bounds_what_attention_reads(prepare: Prepare) -> None:
    pytest.importorskip("numba")
    told, _ = step(prepare("numba", "gemma3"), 30)
    local, full = named(told, "attention", 0), named(told, "attention", 5)
    assert local.flops * 31 == full.flops * 8
    assert local.n_bytes < full.n_bytes


def test_a_step_of_several_calls_tells_each_layer_once(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba")
    runner = prepare("numba", "gemma3")
    monkeypatch.setattr(runner, "_layers_at_once", lambda _: 3)
    told, _ = step(runner, 0, new=20)
    expected = [(name, layer) for layer in range(7) for name in OPERATIONS]
    assert [(each.op, each.layer) for each in told] == [*expected, ("output", None)]
    assert sum(each.seconds for each in told) > 0


def test_nothing_is_timed_after_a_timed_step(prepare: Prepare) -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend.records import Size

    runner = prepare("numba")
    step(runner, 5)
    assert runner._filler.sizes[Size.TIMED] == 0  # type: ignore[attr-defined]


def test_types_of_joined_matrices_are_told_in_order(prepare: Prepare) -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend import operation_costs
    from smallmind_engine.kernels.packing import LAYOUTS, SPLIT_Q8_0

    model = prepare("numba")._model  # type: ignore[attr-defined]
    q4, q6 = (model.plans[0]._replace(layout=LAYOUTS[name]) for name in ("Q4_K", "Q6_K"))
    cost = operation_costs._product_cost("qkv", 0, [q4, q6, q4])
    assert cost.quantization == "Q4_K+Q6_K"
    assert cost.token_bytes == WIDTH // 32 * 48
    output = model.plans[-1]._replace(layout=SPLIT_Q8_0, rows=20)
    search = operation_costs._search_cost(output)
    assert (search.op, search.quantization) == ("output_search", "Q8_0")
    assert search.weight_bytes == 32 * (WIDTH // 32) * (16 + 2)


def test_an_operation_that_seems_impossibly_fast_gets_its_time_from_the_one_before() -> None:
    from smallmind_engine.kernels.numba_backend.operation_times import without_late_readings

    seconds, least = np.array([3.0, 9.0, 0.0, 2.0]), np.array([1.0, 1.0, 1.5, 1.0])
    assert without_late_readings(seconds, least).tolist() == [3.0, 7.5, 1.5, 2.0]


def test_no_operation_is_faster_than_it_can_be_even_when_none_before_has_time_to_give() -> None:
    from smallmind_engine.kernels.numba_backend.operation_times import without_late_readings

    assert without_late_readings(np.zeros(3), np.ones(3)).tolist() == [1.0, 1.0, 1.0]


def test_a_tick_is_measured_over_the_longest_time_there_is() -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend.operation_times import TickRate

    rate = TickRate()
    assert rate.seconds_per_tick((0, 0), (10, 10_000)) == pytest.approx(1e-6)
    # Soon after, the call itself still serves; much later all that has passed.
    assert rate.seconds_per_tick((20, 20_000), (30, 40_000)) == pytest.approx(2e-6)
    late = rate.seconds_per_tick((50, 0), (100_010, 100_010_000))
    assert late == pytest.approx(1e-6)
    assert TickRate().seconds_per_tick((5, 0), (5, 10)) == 0.0


# -- how much attention sees --------------------------------------------------------------------


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=4),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_the_span_of_attention_is_what_counting_gives(
    spans: list[tuple[int, int]], window: int | None
) -> None:
    pairs = positions = 0
    for before, count in spans:
        seen = [
            range(0 if window is None else max(0, at - window + 1), at + 1)
            for at in range(before, before + count)
        ]
        pairs += sum(map(len, seen))
        positions += len(set().union(*seen)) if count else 0
    if all(count for _, count in spans):
        assert attention_span(spans, window) == (pairs, positions)
    assert attention_span(spans, window)[0] == pairs


# -- a real model -------------------------------------------------------------------------------


@pytest.mark.model
def test_a_real_model_tells_its_quantised_operations(smollm2_path: Path) -> None:
    pytest.importorskip("numba")
    file = GgufFile.open(smollm2_path)
    source = GgufWeights(file)
    spec = transformer_spec(file.metadata, source)
    request = PrepareRequest(mode=WeightsMode.RESIDENT, threads=2)
    runner = get_backend("numba").prepare(spec, source, request)
    told, _ = step(runner, 20, logits=LogitsWanted.BEST)
    assert {each.quantization for each in told if each.op == "up"} == {"Q4_1"}
    assert told[-1].op == "output_search"
    assert all(each.seconds > 0 for each in told)
    assert 0.5 * runner.weight_bytes < sum(e.n_bytes for e in told) < 1.1 * runner.weight_bytes
    runner.close()

"""What products ask for ahead: all that the next layer's attention reads, each place once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

from smallmind_engine.cache import KVType, PagedKVCache
from smallmind_engine.kernels import Chunk, LogitsWanted
from tiny_models import TinyModel, write_tiny_model
from tiny_runners import filled_caches, numba_runner_for

pytest.importorskip("numba")

from compiled_kernels import TIERS, Quantized, address, multiply, product, zeros
from packed_weights import random_packed
from smallmind_engine.kernels.numba_backend.buffers import StepBuffers
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import ITEM_BYTES, Job
from smallmind_engine.kernels.numba_backend.runner import NumbaRunner
from smallmind_engine.kernels.packing import LAYOUTS

PAGE, LANES, LINE = 64, 16, 64
LENGTHS = (3, 16, 63, 64, 65, 131)


def listed(buffers: StepBuffers) -> list[int]:
    """What the threads wrote down in the last step."""
    return [place for thread in range(len(buffers.ahead)) for place in listed_by(buffers, thread)]


def listed_by(buffers: StepBuffers, thread: int) -> list[int]:
    """What one of them wrote down."""
    entries, end = buffers.ahead[thread], int(buffers.jobs[thread, 0, Job.AHEAD_END])
    return entries[: (end - entries.ctypes.data) // 8 + 1].tolist() if end else []


def read_by_attention(runner: NumbaRunner, caches: list[PagedKVCache], chunk: int) -> set[int]:
    """The chunks of the first layer's keys and values of all positions, by the pages' layout."""
    layout, spec = runner._pages, runner._spec
    item = ITEM_BYTES[layout.kind]
    values_at = spec.n_kv_heads * layout.key_head
    found = set()
    for cache in caches:
        for index, base in enumerate(cache.addresses.tolist()):
            used = min(max(cache.length - index * PAGE, 0), PAGE)
            keys = -(-used // LANES) * LANES * spec.head_dim * item
            values = used * (layout.value_head // PAGE)
            for head in range(spec.n_kv_heads):
                begin = base + head * layout.key_head
                found.update(range(begin, begin + keys, chunk))
                begin = base + values_at + head * layout.value_head
                found.update(range(begin, begin + values, chunk))
    return found


@pytest.mark.parametrize("kv_type", list(KVType))
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_step_of_many_lists_all_that_attention_reads(
    tmp_path: Path, kv_type: KVType, threads: int
) -> None:
    model = TinyModel(qtype=Quant.Q8_0)
    runner = numba_runner_for(write_tiny_model(tmp_path / "tiny.gguf", model), kv_type, threads)
    caches = filled_caches(runner, LENGTHS, room=2)
    expected = read_by_attention(runner, caches, chunk=2 * LINE)
    buffers, _ = runner._make_place(len(LENGTHS), runner._model)
    buffers.ahead = np.zeros((threads, len(expected)), np.int64)
    for _, table in runner._by_capacity.values():
        table.put("ahead", buffers.ahead)
    runner.forward([Chunk(np.array([5]), cache, LogitsWanted.NONE) for cache in caches])
    got = listed(buffers)
    assert len(got) == len(set(got))
    assert set(got) == expected


@pytest.mark.parametrize("count", [6, 5])
def test_a_thread_asks_for_the_sequences_that_it_begins_with(tmp_path: Path, count: int) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", TinyModel(qtype=Quant.Q8_0))
    runner = numba_runner_for(path, KVType.F16, threads=2)
    caches = filled_caches(runner, LENGTHS[:count])
    runner.forward([Chunk(np.array([5]), cache, LogitsWanted.NONE) for cache in caches])
    buffers, _ = runner._make_place(count, runner._model)
    for thread in range(2):
        own = range(count * thread // 2, count * (thread + 1) // 2)
        places = listed_by(buffers, thread)
        assert places
        for place in places:
            assert next(i for i, cache in enumerate(caches) if holds(cache, place)) in own


def holds(cache: PagedKVCache, place: int) -> bool:
    """Whether an address is within a page of a cache."""
    size = cache._pool.page_bytes
    return any(begin <= place < begin + size for begin in cache.addresses.tolist())


def test_few_and_very_many_tokens_ask_for_nothing(tmp_path: Path) -> None:
    runner = numba_runner_for(
        write_tiny_model(tmp_path / "tiny.gguf", TinyModel(qtype=Quant.Q8_0)), KVType.F16, 2
    )
    cache = runner.new_cache(200)
    for count in (5, 1, 4, 33, 100):
        cache.truncate(70)
        if cache.length < 70:
            runner.forward([Chunk(np.arange(70) % 200, cache, LogitsWanted.NONE)])
        runner.forward([Chunk(np.arange(count), cache, LogitsWanted.NONE)])
        buffers, _ = runner._make_place(count, runner._model)
        assert bool(listed(buffers)) == (count == 5)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("entries", "passed"), [(5, 4), (100, 2 * 3)])
def test_a_product_goes_along_the_list_by_a_chunk_with_each_block(
    tier: IsaTier, entries: int, passed: int
) -> None:
    layout = LAYOUTS["Q4_0"]
    matrix = random_packed(layout, 32, 96)
    inputs = Quantized.of(np.random.default_rng(1).normal(size=(16, 96)).astype(np.float32))
    places, memory = zeros(entries, np.int64), zeros(4096, np.int8)
    places[:] = address(memory)
    call = product(tier, layout)
    job = np.zeros(len(Job), np.int64)
    plain = multiply(call, matrix, inputs, job=job)
    assert job[Job.AHEAD] == 0
    job[Job.AHEAD] = address(places)
    job[Job.AHEAD_END] = address(places) + 8 * (entries - 1)
    np.testing.assert_array_equal(multiply(call, matrix, inputs, job=job), plain)
    assert job[Job.AHEAD] == address(places) + 8 * passed

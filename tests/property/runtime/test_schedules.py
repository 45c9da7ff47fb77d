"""Whatever the scheduler does with a request, its tokens are those that it gets alone.

Random schedules: arrivals, batch sizes, budgets, sessions, prefixes in common, evictions, slow
readers, and others that are cancelled. Holds bit for bit on backends whose products do not depend
on what else is in a batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Quant

from engines import tiny_engine
from smallmind import CancellationToken, Engine, StopReason
from tiny_models import TinyModel, write_tiny_model

pytest.importorskip("numba")

BLOCK = 64
POOL = 24
SHARED = [3 + i * 7 % 250 for i in range(150)]
ENGINES = 2
SCHEDULES = 8
SLOW_ENGINES = 7
SLOW_SCHEDULES = 24  # three settings of seven engines: 504 in all


def case(number: int) -> tuple[list[int], dict[str, object]]:
    """A request of the pool: always the same one for a number."""
    rng = random.Random(number)  # noqa: S311 - repeatable
    common = SHARED[: rng.choice((0, 0, 30, 70, 100, 140))]
    own = [rng.randrange(3, 250) for _ in range(rng.randrange(1, 60))]
    options: dict[str, object] = {
        "max_tokens": rng.randrange(1, 30),
        "temperature": rng.choice((0.0, 0.0, 0.9)),
        "seed": number,
        "ignore_eos": True,
        "repetition_penalty": rng.choice((1.0, 1.0, 1.2)),
        "context_overflow": "sliding",
    }
    return [*common, *own], options


@dataclass(frozen=True)
class Setting:
    """A model and a type of cache, and the tokens that each request of the pool gets alone."""

    folder: Path
    kv_type: str
    alone: dict[int, tuple[int, ...]]


QTYPES = (None, Quant.Q8_0, Quant.Q4_0)
KV_TYPES = ("f16", "int8", "f32")


@pytest.fixture(scope="module", params=range(len(QTYPES)))
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Requests alone: one at a time, nothing shared, on one thread."""
    folder = tmp_path_factory.mktemp("schedules")
    model = TinyModel("llama", scale=0.35, tied=False, qtype=QTYPES[request.param])
    write_tiny_model(folder / "tiny.gguf", model)
    kv_type = KV_TYPES[request.param]
    options = {"backend": "numba", "threads": 1, "kv_cache_type": kv_type, "prefix_cache": False}
    with tiny_engine(folder, **options) as engine:
        alone = {
            number: engine.generate(case(number)[0], **case(number)[1]).token_ids
            for number in range(POOL)
        }
    return Setting(folder, kv_type, alone)


def random_engine(setting: Setting, rng: random.Random) -> Engine:
    folder = setting.folder
    same = {"backend": "numba", "kv_cache_type": setting.kv_type}
    with tiny_engine(folder, threads=1, **same) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        block = probe.model.runner.kv_bytes_per_token * BLOCK
    memory: dict[str, object] = {}
    if rng.random() < 0.5:
        blocks = rng.randrange(8, 24)
        memory = {
            "max_memory_bytes": weights + blocks * block,
            "memory_budget_mode": "strict",
        }
    return tiny_engine(
        folder,
        **same,
        threads=rng.choice((1, 1, 1, 2)),
        max_batch_size=rng.randrange(1, 9),
        max_concurrent_requests=rng.randrange(2, 9),
        max_queue_depth=100,
        prefill_budget=rng.choice((None, 1, 7, 64)),
        prefix_cache=rng.random() < 0.8,
        max_prefix_tokens=rng.choice((None, 0, 3 * BLOCK)),
        **memory,
    )


def run_schedule(engine: Engine, rng: random.Random, alone: dict[int, tuple[int, ...]]) -> None:
    """Some requests at once, each in a way of its own; all that complete are compared."""

    def ask(number: int, way: str) -> None:
        prompt, options = case(number)
        if way == "cancelled":
            token = CancellationToken()
            stop_at = number % 5
            result = engine.generate(
                prompt,
                cancellation=token,
                on_token=lambda chunk: token.cancel() if chunk.index == stop_at else None,
                **options,
            )
            assert result.token_ids == alone[number][: len(result.token_ids)]
        elif way == "abandoned":
            with engine.stream(prompt, **options) as stream:
                assert next(stream).token_id == alone[number][0]
        elif way == "session":
            with engine.session() as session, session.fork() as fork:
                assert session.generate(prompt, **options).token_ids == alone[number]
                assert fork.generate(prompt, **options).token_ids == alone[number]
        elif way == "generate":
            result = engine.generate(prompt, priority=number % 3, **options)
            assert result.token_ids == alone[number]
        else:
            buffered = int(way) or None
            with engine.stream(prompt, max_buffered_tokens=buffered, **options) as stream:
                ids = tuple(chunk.token_id for chunk in stream if chunk.token_id is not None)
            assert ids == alone[number]
            assert stream.result.stop_reason is StopReason.MAX_TOKENS

    ways = ("generate", "generate", "session", "cancelled", "abandoned", "0", "1", "4")
    count = rng.randrange(2, 9)
    chosen = [(rng.randrange(POOL), rng.choice(ways)) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        for job in [pool.submit(ask, *each) for each in chosen]:
            job.result(60)
    stats = engine.stats()
    assert stats.submitted == stats.ended
    assert stats.running == stats.queue_depth == 0
    assert stats.kv_blocks_used == stats.prefix_blocks == stats.prefix_blocks_idle
    assert stats.kv_blocks_rented - stats.kv_blocks_returned == stats.kv_blocks_used


def schedules(seed: int, count: int) -> Iterator[random.Random]:
    for number in range(count):
        yield random.Random(seed * 10_000 + number)  # noqa: S311 - repeatable


@pytest.mark.parametrize("seed", range(ENGINES))
def test_tokens_do_not_depend_on_the_schedule(setting: Setting, seed: int) -> None:
    with random_engine(setting, random.Random(seed)) as engine:  # noqa: S311 - repeatable
        for rng in schedules(seed, SCHEDULES):
            run_schedule(engine, rng, setting.alone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + SLOW_ENGINES))
def test_tokens_do_not_depend_on_the_schedule_in_five_hundred(setting: Setting, seed: int) -> None:
    with random_engine(setting, random.Random(seed)) as engine:  # noqa: S311 - repeatable
        for rng in schedules(seed, SLOW_SCHEDULES):
            run_schedule(engine, rng, setting.alone)

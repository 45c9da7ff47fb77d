"""Beginnings that prompts have in common are computed once, and never change a token."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import Engine, StopReason
from smallmind_engine.cache import blocks_for
from smallmind_engine.telemetry import KVCacheEvicted, KVCacheLookup, PrefillEnded
from smallmind_engine.telemetry.errors import ConcurrentSessionUseError, MemoryBudgetError

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 6}
BLOCK = 64
SYSTEM = [3 + i * 11 % 250 for i in range(140)]  # two blocks and a bit


@pytest.fixture(params=["numba", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder, backend: str) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder], backend=backend) as engine:
        yield engine


def sizes(folder: Path, backend: str) -> tuple[int, int]:
    """Bytes of the weights, and of a block."""
    with tiny_engine(folder, backend=backend) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        return weights, probe.model.runner.kv_bytes_per_token * BLOCK


def test_a_second_prompt_reuses_the_blocks_of_the_first(engine: Engine, recorder: Recorder) -> None:
    first = engine.generate([*SYSTEM, 7, 8], **GREEDY)
    second = engine.generate([*SYSTEM, 9], **GREEDY)
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, len(SYSTEM))
    assert [e.computed_tokens for e in recorder.of(PrefillEnded)] == [142, 1]
    assert [(e.hit, e.reused_tokens) for e in recorder.of(KVCacheLookup)] == [
        (False, 0),
        (True, len(SYSTEM)),
    ]


def test_a_block_that_is_not_full_goes_when_another_goes_on_from_it(engine: Engine) -> None:
    engine.generate(SYSTEM[:100], **GREEDY)
    assert engine.stats().prefix_blocks == 2
    first = engine.generate(SYSTEM[:100], **GREEDY)
    assert engine.stats().prefix_blocks == 2
    engine.generate([*SYSTEM[:100], *first.token_ids, *SYSTEM], **GREEDY)
    assert engine.stats().prefix_blocks == blocks_for(100 + 6 + len(SYSTEM))


def test_no_block_is_kept_for_a_few_tokens(engine: Engine) -> None:
    engine.generate(SYSTEM[: BLOCK + 9], **GREEDY)  # and five more are in the cache
    assert engine.stats().prefix_blocks == 1
    assert engine.kv_tokens == (BLOCK, BLOCK)


def test_a_session_shares_full_blocks_only_as_it_will_write_to_the_last(engine: Engine) -> None:
    with engine.session() as session:
        session.generate(SYSTEM, **GREEDY)
        assert engine.generate([*SYSTEM, 9], **GREEDY).usage.cached_tokens == 2 * BLOCK


def test_part_of_a_block_is_reused_too(engine: Engine) -> None:
    engine.generate(SYSTEM, **GREEDY)
    assert engine.generate([*SYSTEM[:100], 7, 8], **GREEDY).usage.cached_tokens == 100
    assert engine.generate(SYSTEM[:BLOCK], **GREEDY).usage.cached_tokens == BLOCK - 1


def test_reuse_does_not_change_a_token(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    prompts = [SYSTEM, [*SYSTEM[:100], 7], [*SYSTEM, 9], SYSTEM[:BLOCK], [*SYSTEM[:65], 5, 4]]
    options = {"temperature": 1.0, "seed": 3, "ignore_eos": True, "max_tokens": 30}
    with tiny_engine(tmp_path, backend="numba", prefix_cache=False) as engine:
        expected = [engine.generate(prompt, **options).token_ids for prompt in prompts]
        assert engine.stats().prefix_hits == 0
    with tiny_engine(tmp_path, backend="numba") as engine:
        for _ in range(2):
            got = [engine.generate(prompt, **options).token_ids for prompt in prompts]
            assert expected == got
        assert engine.stats().prefix_hits == 2 * len(prompts) - 1


def test_completions_are_found_as_prompts(engine: Engine) -> None:
    first = engine.generate(SYSTEM[:50], temperature=0.0, ignore_eos=True, max_tokens=100)
    turn = [*SYSTEM[:50], *first.token_ids, 5]
    assert engine.generate(turn, **GREEDY).usage.cached_tokens == len(turn) - 2


def test_sharing_can_be_switched_off(tmp_path: Path, backend: str) -> None:
    with tiny_engine(tmp_path, backend=backend, prefix_cache=False) as engine:
        engine.generate(SYSTEM, **GREEDY)
        assert engine.generate(SYSTEM, **GREEDY).usage.cached_tokens == 0
        assert engine.stats().kv_blocks_used == 0


def test_no_more_is_kept_than_allowed(tmp_path: Path, recorder: Recorder, backend: str) -> None:
    options = {"exporters": [recorder], "backend": backend, "max_prefix_tokens": 3 * BLOCK}
    with tiny_engine(tmp_path, **options) as engine:
        for begin in range(4):
            engine.generate([begin + 3, *SYSTEM], **GREEDY)
        stats = engine.stats()
        assert stats.prefix_blocks == stats.kv_blocks_used == 3
        assert stats.evicted_blocks == 4 * 3 - 3
        assert engine.generate([6, *SYSTEM], **GREEDY).usage.cached_tokens == len(SYSTEM)
        assert engine.generate([3, *SYSTEM], **GREEDY).usage.cached_tokens == 0
    assert sum(e.tokens for e in recorder.of(KVCacheEvicted)) >= 5 * BLOCK


def test_kept_blocks_make_room_for_requests(
    tmp_path: Path, recorder: Recorder, backend: str
) -> None:
    weights, block = sizes(tmp_path, backend)
    options = {
        "exporters": [recorder],
        "backend": backend,
        "max_memory_bytes": weights + 4 * block,
        "memory_budget_mode": "strict",
    }
    with tiny_engine(tmp_path, **options) as engine:
        for begin in range(5):
            result = engine.generate([begin + 3, *SYSTEM], **GREEDY)
            assert result.stop_reason is StopReason.MAX_TOKENS
        assert engine.stats().kv_blocks_used <= 4
    assert recorder.of(KVCacheEvicted)


def test_requests_wait_for_memory_that_others_will_give_back(tmp_path: Path, backend: str) -> None:
    weights, block = sizes(tmp_path, backend)
    options = {
        "backend": backend,
        "max_memory_bytes": weights + 3 * block,
        "memory_budget_mode": "strict",
    }
    with tiny_engine(tmp_path, **options) as engine, ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(engine.generate, [3 + i] * 70, **{**GREEDY, "max_tokens": 30})
            for i in range(8)
        ]
        assert {job.result(60).stop_reason for job in jobs} == {StopReason.MAX_TOKENS}


def test_a_limit_of_tokens_is_kept(tmp_path: Path, backend: str) -> None:
    with (
        tiny_engine(tmp_path, backend=backend, max_kv_tokens=4 * BLOCK) as engine,
        ThreadPoolExecutor(6) as pool,
    ):
        jobs = [pool.submit(engine.generate, [3 + i] * 70, **GREEDY) for i in range(6)]
        assert {job.result(60).stop_reason for job in jobs} == {StopReason.MAX_TOKENS}
        assert engine.stats().kv_blocks_free is not None
        assert engine.stats().kv_blocks_used <= 4
        limited = engine.generate([5] * 250, temperature=0.0, ignore_eos=True, max_tokens=5)
        assert limited.stop_reason is StopReason.MAX_TOKENS
    with tiny_engine(tmp_path, backend=backend, max_kv_tokens=2 * BLOCK) as engine:
        cut = engine.generate([5] * 100, temperature=0.0, ignore_eos=True, max_tokens=50)
        assert cut.usage.total_tokens == 2 * BLOCK + 1
        assert cut.stop_reason is StopReason.MEMORY_BUDGET_SOFT_LIMIT
        with pytest.raises(MemoryBudgetError, match="may have 128 tokens"):
            engine.generate([5] * 130, **GREEDY)


def test_prompts_that_come_together_compute_their_beginning_once(
    tmp_path: Path, recorder: Recorder
) -> None:
    pytest.importorskip("numba")
    with (
        tiny_engine(tmp_path, exporters=[recorder], backend="numba") as engine,
        ThreadPoolExecutor(8) as pool,
    ):
        jobs = [pool.submit(engine.generate, [*SYSTEM, 5 + i], **GREEDY) for i in range(8)]
        cached = sorted(job.result(60).usage.cached_tokens for job in jobs)
    assert cached[0] == 0
    assert set(cached[1:]) == {len(SYSTEM)}


@pytest.mark.parametrize(("computed", "waits"), [(3, False), (15, False), (16, True), (40, True)])
def test_a_prompt_waits_for_another_only_where_that_spares_it_some_tokens(
    tmp_path: Path, *, computed: int, waits: bool
) -> None:
    pytest.importorskip("numba")
    with tiny_engine(tmp_path, backend="numba") as engine:
        kept = [*SYSTEM[:BLOCK], *[7] * 20]
        engine.generate(kept, **GREEDY)
        beginning = [*kept, *[8] * computed]
        store = engine._core.kv_store
        assert store.would_share([*beginning, 5, 6], [*beginning, 9, 6]) is waits


def test_blocks_do_not_fragment(tmp_path: Path) -> None:
    """After any mixture of long and short requests, one may take all the memory there is."""
    pytest.importorskip("numba")
    weights, block = sizes(tmp_path, "numba")
    options = {
        "backend": "numba",
        "max_memory_bytes": weights + 4 * block,
        "memory_budget_mode": "strict",
    }
    rng = random.Random(5)  # noqa: S311 - a repeatable mixture
    with tiny_engine(tmp_path, **options) as engine, ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            jobs = [
                pool.submit(
                    engine.generate,
                    [rng.randrange(3, 250) for _ in range(rng.randrange(1, 180))],
                    **{**GREEDY, "max_tokens": rng.randrange(1, 20)},
                )
                for _ in range(6)
            ]
            for job in jobs:
                job.result(60)
            whole = engine.generate(
                [rng.randrange(3, 250) for _ in range(200)], **{**GREEDY, "max_tokens": 50}
            )
            assert whole.usage.total_tokens == 250
        pool_of_pages = engine.model.runner._pool
        assert pool_of_pages.high_water <= 4
        assert pool_of_pages.lent == engine.stats().kv_blocks_used


def test_a_forked_session_goes_on_with_what_was_computed(engine: Engine) -> None:
    with engine.session("one") as one:
        one.generate(SYSTEM, **GREEDY)
        history = list(one.token_ids)
        with one.fork("two") as two:
            assert two.token_ids == one.token_ids
            assert two.cached_tokens == one.cached_tokens == len(history) - 1
            left = one.generate([5, 6], **GREEDY)
            right = two.generate([7], **GREEDY)
            again = one.generate([8], **GREEDY)
            assert left.usage.cached_tokens == right.usage.cached_tokens == len(history) - 1
    alone = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 6}
    assert left.token_ids == engine.generate([*history, 5, 6], **alone).token_ids
    assert right.token_ids == engine.generate([*history, 7], **alone).token_ids
    third = [*history, 5, 6, *left.token_ids, 8]
    assert again.token_ids == engine.generate(third, **alone).token_ids


def test_forks_share_memory_and_give_all_of_it_back(tmp_path: Path, backend: str) -> None:
    with tiny_engine(tmp_path, backend=backend, prefix_cache=False) as engine:
        session = engine.session()
        session.generate(SYSTEM, **GREEDY)
        before = engine.stats().kv_blocks_used
        forks = [session.fork() for _ in range(4)]
        if backend == "numba":
            assert engine.stats().kv_blocks_used == before + 4  # the last block of each
        for each in (session, *forks):
            each.generate([5], **GREEDY)
            each.close()
        assert engine.stats().kv_blocks_used == 0
        assert engine.kv_tokens == (0, 0)


def test_a_session_in_use_cannot_be_forked(engine: Engine) -> None:
    with engine.session("alice") as session:
        stream = session.stream("the", **GREEDY)
        next(stream)
        with pytest.raises(ConcurrentSessionUseError, match="alice"):
            session.fork()
        stream.close()
        assert session.fork().token_ids == session.token_ids


def test_a_session_that_goes_back_within_shared_blocks_leaves_them_as_they_are(
    engine: Engine,
) -> None:
    """Its own continuation is written to a copy: others still find what was there."""
    engine.generate(SYSTEM, **GREEDY)
    expected = engine.generate([*SYSTEM, 9], **GREEDY).token_ids
    with engine.session() as session:
        session.generate(SYSTEM, **GREEDY)
        run = session.new_run([*SYSTEM[:80], 5, 6, 7], smallest(), streaming=False, prefix_ids=())
        for _ in run.steps():
            pass
        assert run.result is not None
        assert run.result.usage.cached_tokens == 80
    again = engine.generate([*SYSTEM, 9], **GREEDY)
    assert (again.token_ids, again.usage.cached_tokens) == (expected, len(SYSTEM))


def smallest() -> object:
    from smallmind import GenerationOptions

    return GenerationOptions(max_tokens=60, temperature=0.0, ignore_eos=True)


def test_what_a_failed_request_computed_is_not_shared(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_token(chunk: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        engine.generate(SYSTEM[:60], on_token=on_token, **{**GREEDY, "max_tokens": 60})
    assert engine.stats().prefix_blocks == 0
    assert threading.active_count() > 0


def test_prompts_share_what_a_request_that_runs_has_in_its_last_block(
    tmp_path: Path, engine: Engine, backend: str
) -> None:
    long = {**GREEDY, "max_tokens": 100}
    with tiny_engine(tmp_path, backend=backend, prefix_cache=False) as other:
        alone = other.generate(SYSTEM, **long).token_ids
        beside = other.generate([*SYSTEM, 9], **GREEDY).token_ids
    running = engine.stream(SYSTEM, **long)
    seen = [next(running).token_id for _ in range(3)]
    answer = engine.generate([*SYSTEM, 9], **GREEDY)
    assert answer.usage.cached_tokens == len(SYSTEM)
    assert answer.token_ids == beside
    seen += [chunk.token_id for chunk in running if chunk.token_id is not None]
    assert tuple(seen) == alone


def test_a_block_is_kept_once_however_many_others_follow_the_same_beginning(
    tmp_path: Path, backend: str
) -> None:
    beginning = SYSTEM[: 2 * BLOCK]
    prompts = [[*beginning, *[5 + index] * 30] for index in range(20)]
    with tiny_engine(tmp_path, backend=backend, max_prefix_tokens=100 * BLOCK) as engine:
        for prompt in prompts:
            engine.generate(prompt, **GREEDY)
        running = engine.stream(prompts[0], **{**GREEDY, "max_tokens": 40})
        # Until its last block is the very one that the first request left.
        seen = [next(running).token_id for _ in range(GREEDY["max_tokens"])]
        engine.generate([*prompts[0], 9], **GREEDY)
        seen += [chunk.token_id for chunk in running if chunk.token_id is not None]
        assert len(seen) == 40
        stats = engine.stats()
        assert stats.prefix_blocks == stats.kv_blocks_used == stats.prefix_blocks_idle
    assert engine.stats().kv_blocks_used == 0


@pytest.mark.parametrize("length", [45, 72, 115])
def test_choices_compute_their_prompt_once(tmp_path: Path, recorder: Recorder, length: int) -> None:
    pytest.importorskip("numba")
    with tiny_engine(tmp_path, exporters=[recorder], backend="numba") as engine:
        engine.choices(SYSTEM[:length], n=3, temperature=1.0, seed=1, max_tokens=8)
    computed = sorted(event.computed_tokens for event in recorder.of(PrefillEnded))
    assert computed == [1, 1, length]

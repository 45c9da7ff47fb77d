"""Sessions keep their cache, belong to one thread, and lose the cache when memory is short."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import DegradeReason, Engine, StopReason
from smallmind_engine.telemetry import (
    Degraded,
    Event,
    KVCacheEvicted,
    KVCacheLookup,
    PrefillEnded,
)
from smallmind_engine.telemetry.errors import (
    ClosedError,
    ConcurrentSessionUseError,
    ContextOverflowError,
)

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 6}


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def test_the_second_turn_computes_only_what_is_new(engine: Engine, recorder: Recorder) -> None:
    with engine.session() as session:
        first = session.generate("the and", **GREEDY)
        second = session.generate(" in", **GREEDY)
    lookups = recorder.of(KVCacheLookup)
    assert [lookup.hit for lookup in lookups] == [False, True]
    known = first.usage.total_tokens
    assert second.usage.cached_tokens == known - 1  # the last token drawn was never computed
    assert recorder.of(PrefillEnded)[1].computed_tokens == second.usage.prompt_tokens - known + 1


def test_a_session_goes_on_as_one_prompt_with_all_turns_would(engine: Engine) -> None:
    with engine.session() as session:
        session.generate("the and", **GREEDY)
        before = session.token_ids
        second = session.generate(" in the", **GREEDY)
    alone = engine.generate([*before, *engine.tokenize(" in the")], **GREEDY)
    assert second.token_ids == alone.token_ids


def test_the_session_id_is_on_every_event(engine: Engine, recorder: Recorder) -> None:
    with engine.session(session_id="alice") as session:
        result = session.generate("the", **GREEDY)
    ours = [e for e in recorder.events if e.correlation == result.correlation]
    assert {"alice"} == {event.correlation.session_id for event in ours}
    assert len(ours) > 8


def test_a_second_thread_is_refused_at_once(engine: Engine) -> None:
    caught: list[BaseException] = []
    with engine.session(session_id="alice") as session:
        entered, leave = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            entered.set()
            leave.wait(10)

        holder = threading.Thread(
            target=lambda: session.generate("the", on_token=hold, **GREEDY), name="holder"
        )
        holder.start()
        assert entered.wait(10)
        for intrude in (
            lambda: session.generate("x"),
            lambda: session.stream("x"),
            session.reset,
            session.close,
        ):
            with pytest.raises(ConcurrentSessionUseError, match="alice") as error:
                intrude()
            caught.append(error.value)
        leave.set()
        holder.join(10)
    assert all(error.details["owner"] == "holder" for error in caught)


def test_an_unfinished_stream_holds_the_session_until_it_is_closed(engine: Engine) -> None:
    with engine.session() as session:
        stream = session.stream("the", **GREEDY)
        with pytest.raises(ConcurrentSessionUseError):
            session.generate("x")
        stream.close()
        next(iter(session.stream("the", **GREEDY)))  # dropped at once
        assert session.generate("x", **GREEDY).stop_reason is StopReason.MAX_TOKENS


def test_a_turn_that_is_refused_leaves_the_conversation_as_it_was(engine: Engine) -> None:
    with engine.session() as session:
        session.generate("the", **GREEDY)
        before = session.token_ids
        with pytest.raises(ContextOverflowError):
            session.generate("x" * 1000)
        assert session.token_ids == before
        assert session.generate(" in", **GREEDY).usage.cached_tokens == len(before) - 1


def test_reset_forgets(engine: Engine) -> None:
    with engine.session() as session:
        session.generate("the", **GREEDY)
        session.reset()
        assert session.token_ids == ()
        assert session.cached_tokens == 0
        assert session.generate("the", **GREEDY).usage.cached_tokens == 0


def test_a_closed_session_refuses(engine: Engine) -> None:
    session = engine.session()
    session.close()
    session.close()
    with pytest.raises(ClosedError):
        session.generate("the")


def test_a_closed_engine_refuses(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    session = engine.session()
    engine.close()
    engine.close()
    for use in (
        lambda: engine.generate("x"),
        engine.session,
        lambda: engine.tokenize("x"),
        lambda: session.generate("x"),
    ):
        with pytest.raises(ClosedError):
            use()


def test_the_least_recently_used_idle_cache_makes_room(tmp_path: Path, recorder: Recorder) -> None:
    with tiny_engine(tmp_path) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        block = probe.model.runner.kv_bytes_per_token * 64
    with (
        tiny_engine(
            tmp_path,
            exporters=[recorder],
            max_memory_bytes=weights + 2 * block,
            memory_budget_mode="strict",
        ) as engine,
        engine.session("old") as old,
        engine.session("new") as new,
    ):
        expected = old.generate("the", **GREEDY)
        new.generate("the", **GREEDY)
        assert engine.generate("and", **GREEDY).stop_reason is StopReason.MAX_TOKENS
        evicted = recorder.of(KVCacheEvicted)
        again = old.generate(" in", **GREEDY)
        assert (old.cached_tokens > 0, again.usage.cached_tokens) == (True, 0)
        assert again.usage.prompt_tokens > expected.usage.total_tokens
    assert [expected.usage.total_tokens - 1] == [event.tokens for event in evicted]
    reasons = {event.reason for event in recorder.of(Degraded)}
    assert reasons == {DegradeReason.KV_CACHE_EVICTION}


def test_a_stream_may_be_dropped_while_a_cache_is_being_found(tmp_path: Path) -> None:
    """As the garbage collector does: here an exporter does it, in the midst of an eviction."""
    dropped: list[object] = []

    class Dropping(Recorder):
        def export(self, event: Event, /) -> None:
            super().export(event)
            if isinstance(event, KVCacheEvicted) and dropped:
                dropped.clear()
                assert engine.kv_tokens is not None

    with tiny_engine(tmp_path) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        block = probe.model.runner.kv_bytes_per_token * 64
    recorder = Dropping()
    with tiny_engine(
        tmp_path,
        exporters=[recorder],
        max_memory_bytes=weights + 2 * block,
        memory_budget_mode="strict",
    ) as engine:
        session = engine.session()
        session.generate("the", **GREEDY)
        stream = engine.stream("and", **GREEDY)
        next(stream)
        dropped.append(stream)
        del stream
        results: list[object] = []
        worker = threading.Thread(
            target=lambda: results.append(engine.generate("in", **GREEDY)), daemon=True
        )
        worker.start()
        worker.join(30)
        assert not worker.is_alive()
        assert len(results) == 1
        session.close()
        assert engine.kv_tokens == (0, 0)


def test_a_prompt_that_is_too_long_can_lose_its_middle(engine: Engine, recorder: Recorder) -> None:
    ids = [3 + i % 250 for i in range(600)]
    result = engine.generate(ids, context_overflow="truncate_middle", **{**GREEDY, "max_tokens": 1})
    context = engine.model.context_length
    assert result.usage.prompt_tokens == context - 1
    assert recorder.of(Degraded)[-1].reason is DegradeReason.CONTEXT_TRUNCATION


def test_many_threads_with_sessions_of_their_own_get_what_one_would(engine: Engine) -> None:
    prompts = [f"{word} the" for word in ("a", "b", "c", "d", "e", "f")]
    expected = [engine.generate(prompt, **GREEDY).token_ids for prompt in prompts]
    got: dict[int, tuple[int, ...]] = {}

    def work(index: int) -> None:
        with engine.session() as session:
            got[index] = session.generate(prompts[index], **GREEDY).token_ids

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert expected == [got[i] for i in range(len(prompts))]


def test_a_session_that_nobody_refers_to_gives_its_cache_back(engine: Engine) -> None:
    for _ in range(3):
        engine.session().generate("the and", **GREEDY)
    gc.collect()
    stats = engine.stats()
    assert stats.kv_blocks_used == stats.prefix_blocks_idle
    assert stats.kv_blocks_rented > 0


def test_a_session_that_is_dropped_before_its_request_has_ended_is_collected_behind_it(
    engine: Engine,
) -> None:
    session = engine.session()
    store, slot = engine._core.kv_store, session._slot
    with session.stream("the and", **GREEDY) as stream:
        next(stream)
        store.abandon(slot)
        assert engine.stats().kv_blocks_used > 0
        rest = list(stream)
    assert len(rest) >= GREEDY["max_tokens"] - 1
    stats = engine.stats()
    assert (slot.cache, stats.kv_blocks_used) == (None, stats.prefix_blocks_idle)


def test_leaving_a_session_by_an_error_tells_that_error(engine: Engine) -> None:
    """Not that a stream was not finished, which is why the session could not be closed."""

    def work() -> None:
        with engine.session() as session:
            next(session.stream("the", **GREEDY))
            stream = session.stream("the", **GREEDY)
            next(stream)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    gc.collect()
    stats = engine.stats()
    assert stats.kv_blocks_used == stats.prefix_blocks_idle


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_memory_that_the_machine_does_not_have_costs_one_request_only(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget allowed it; what it booked is given back, and the session is free again."""
    with tiny_engine(tmp_path, backend=backend) as engine, engine.session() as session:
        expected = engine.generate("the", **GREEDY).token_ids
        session.generate("and", **GREEDY)
        kind = type(engine.model.runner.new_cache(0))

        def fail(cache: object, capacity: int) -> None:
            raise MemoryError(capacity)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "reserve", fail)
            for work in (
                lambda: engine.generate("the", **GREEDY),
                lambda: session.generate("the" * 70, **GREEDY),
                lambda: engine.embed("the"),
            ):
                with pytest.raises(MemoryError):
                    work()
        stats = engine.stats()
        assert stats.kv_blocks_used == stats.prefix_blocks_idle
        assert stats.ended == stats.submitted
        session.reset()
        assert session.generate("the", **GREEDY).token_ids == expected
        assert engine.generate("the", **GREEDY).token_ids == expected

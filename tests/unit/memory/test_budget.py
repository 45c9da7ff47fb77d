"""The memory budget counts, gives less, or refuses."""

from __future__ import annotations

import threading

import pytest

from engines import Recorder
from smallmind_engine.memory import (
    BudgetEnforcer,
    MemoryBudgetMode,
    MemoryCategory,
    Reservation,
    available_bytes,
    peak_rss_bytes,
    process_memory,
    rss_bytes,
)
from smallmind_engine.memory.budget import NOTABLE_BYTES
from smallmind_engine.telemetry import (
    Emitter,
    Event,
    EventBus,
    MemoryBudgetEvent,
    MemoryHighWater,
    MemoryUsage,
)
from smallmind_engine.telemetry.errors import ConfigError, MemoryBudgetError

KV = MemoryCategory.KV_CACHE
WEIGHTS = MemoryCategory.WEIGHTS


@pytest.fixture
def emitter() -> Emitter:
    return EventBus().emitter()


def current(budget: BudgetEnforcer, category: MemoryCategory) -> tuple[int, int]:
    (usage,) = (usage for usage in budget.usage() if usage.category is category)
    return usage.current_bytes, usage.high_water_bytes


def test_without_a_mode_everything_is_granted_and_counted(emitter: Emitter) -> None:
    budget = BudgetEnforcer(10)
    assert budget.reserve(KV, 1000, emitter) == 1000
    budget.release(KV, 400)
    assert current(budget, KV) == (600, 1000)
    assert budget.free_bytes is None


def test_a_strict_budget_refuses_with_all_numbers(emitter: Emitter) -> None:
    budget = BudgetEnforcer(100, MemoryBudgetMode.STRICT)
    budget.reserve(WEIGHTS, 70, emitter)
    with pytest.raises(MemoryBudgetError, match="take less") as caught:
        budget.reserve(KV, 40, emitter, least_bytes=10, hint="take less")
    details = caught.value.details
    assert (details["wanted_bytes"], details["free_bytes"]) == (40, 30)
    assert (details["limit_bytes"], details["taken_bytes"]) == (100, 70)
    assert isinstance(caught.value, MemoryError)
    assert budget.reserve(KV, 30, emitter) == 30
    assert budget.free_bytes == 0


def test_best_effort_gives_whole_granules(emitter: Emitter) -> None:
    budget = BudgetEnforcer(100, MemoryBudgetMode.BEST_EFFORT)
    assert budget.reserve(KV, 128, emitter, least_bytes=16, granule_bytes=16) == 96


def test_best_effort_refuses_what_would_be_of_no_use(emitter: Emitter) -> None:
    budget = BudgetEnforcer(100, MemoryBudgetMode.BEST_EFFORT)
    with pytest.raises(MemoryBudgetError):
        budget.reserve(KV, 256, emitter, least_bytes=128, granule_bytes=16)
    assert current(budget, KV) == (0, 0)


def test_high_water_and_shortage_are_published() -> None:
    recorder, bus = Recorder(), EventBus()
    bus.subscribe(recorder)
    budget = BudgetEnforcer(100, MemoryBudgetMode.BEST_EFFORT, "tiny")
    budget.reserve(KV, 60, bus.emitter())
    budget.release(KV, 60)
    budget.reserve(KV, 50, bus.emitter())
    budget.reserve(KV, 80, bus.emitter(), least_bytes=10)
    assert [e.high_water_bytes for e in recorder.of(MemoryHighWater)] == [60, 100]
    (short,) = recorder.of(MemoryBudgetEvent)
    assert (short.model, short.wanted_bytes, short.granted_bytes) == ("tiny", 80, 50)


def usage_of(recorder: Recorder) -> list[tuple[str, int, int]]:
    told = recorder.of(MemoryUsage)
    return [(event.category, event.current_bytes, event.high_water_bytes) for event in told]


def test_notable_changes_are_published_and_small_ones_are_not() -> None:
    recorder, bus = Recorder(), EventBus()
    bus.subscribe(recorder)
    budget = BudgetEnforcer(model="tiny", bus=bus)
    budget.reserve(KV, NOTABLE_BYTES - 1, bus.emitter())
    assert usage_of(recorder) == []
    budget.reserve(KV, 40 * NOTABLE_BYTES, bus.emitter())
    budget.reserve(KV, 2 * NOTABLE_BYTES, bus.emitter())
    high = 43 * NOTABLE_BYTES - 1
    assert usage_of(recorder) == [("kv_cache", high - 2 * NOTABLE_BYTES, high - 2 * NOTABLE_BYTES)]
    budget.release(KV, 20 * NOTABLE_BYTES)
    assert usage_of(recorder)[1:] == [("kv_cache", high - 20 * NOTABLE_BYTES, high)]


def test_a_category_that_becomes_empty_is_told() -> None:
    recorder, bus = Recorder(), EventBus()
    bus.subscribe(recorder)
    budget = BudgetEnforcer(bus=bus)
    budget.reserve(WEIGHTS, 100, bus.emitter())
    budget.tell_usage(everything=True)
    budget.release(WEIGHTS, 100)
    assert usage_of(recorder) == [("weights", 100, 100), ("weights", 0, 100)]


def test_usage_goes_with_the_request_that_changes_it() -> None:
    recorder, bus = Recorder(), EventBus()
    bus.subscribe(recorder)
    emitter = bus.emitter()
    BudgetEnforcer(bus=bus).reserve(KV, 5 * NOTABLE_BYTES, emitter)
    assert recorder.of(MemoryUsage)[0].correlation == emitter.correlation


def test_an_exporter_that_asks_the_budget_is_answered_in_the_midst_of_telling() -> None:
    class Asking(Recorder):
        def export(self, event: Event, /) -> None:
            super().export(event)
            if isinstance(event, MemoryUsage) and event.current_bytes:
                budget.release(KV, event.current_bytes)

    recorder, bus = Asking(), EventBus()
    bus.subscribe(recorder)
    budget = BudgetEnforcer(bus=bus)
    budget.reserve(KV, 5 * NOTABLE_BYTES, bus.emitter())
    assert [now for _, now, _ in usage_of(recorder)] == [5 * NOTABLE_BYTES, 0]


def test_the_last_event_of_many_threads_tells_what_is_true() -> None:
    recorder, bus = Recorder(), EventBus()
    bus.subscribe(recorder)
    budget = BudgetEnforcer(bus=bus)

    def work() -> None:
        for _ in range(100):
            budget.reserve(KV, 3 * NOTABLE_BYTES, bus.emitter())
            budget.release(KV, 2 * NOTABLE_BYTES)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    budget.tell_usage()
    assert usage_of(recorder)[-1][1] == current(budget, KV)[0] == 400 * NOTABLE_BYTES


def test_a_reservation_takes_all_or_nothing_and_gives_it_back_once(emitter: Emitter) -> None:
    budget = BudgetEnforcer(100, MemoryBudgetMode.STRICT)
    held = Reservation(budget)
    with pytest.raises(MemoryBudgetError, match=r"weights needs 60 .*, 50 by scratch"):
        held.take([(MemoryCategory.SCRATCH, 50), (WEIGHTS, 60)], emitter)
    assert budget.taken_bytes == 0
    held.take([(MemoryCategory.SCRATCH, 50), (WEIGHTS, 40), (KV, 0)], emitter)
    assert budget.free_bytes == 10
    held.close()
    held.close()
    assert (budget.taken_bytes, budget.limit_bytes) == (0, 100)


@pytest.mark.parametrize("mode", [MemoryBudgetMode.STRICT, MemoryBudgetMode.BEST_EFFORT])
def test_a_mode_needs_a_limit(mode: MemoryBudgetMode) -> None:
    with pytest.raises(ConfigError, match="max_memory_bytes"):
        BudgetEnforcer(None, mode)


def test_threads_never_take_more_than_there_is(emitter: Emitter) -> None:
    budget = BudgetEnforcer(1000, MemoryBudgetMode.STRICT)
    over: list[int] = []

    def work() -> None:
        for _ in range(300):
            try:
                budget.reserve(KV, 300, emitter)
            except MemoryBudgetError:
                continue
            if current(budget, KV)[0] > 1000:
                over.append(1)
            budget.release(KV, 300)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    assert current(budget, KV)[0] == 0


def test_the_process_knows_its_memory() -> None:
    rss, peak = rss_bytes(), peak_rss_bytes()
    assert rss is not None
    assert peak is not None
    assert 1 << 20 < rss <= peak * 1.1
    assert (available_bytes() or 0) > 1 << 20
    kinds = process_memory()
    assert kinds is None or kinds.anonymous_bytes + kinds.file_bytes <= kinds.resident_bytes * 1.1
    assert kinds is None or kinds.resident_bytes <= kinds.peak_bytes * 1.1

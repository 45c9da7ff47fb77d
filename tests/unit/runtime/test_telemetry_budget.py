"""Telemetry measures itself; over its budget it tells less, counts what it left out, comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind_engine.runtime import Detail
from smallmind_engine.runtime.telemetry_budget import (
    MOST_PATIENCE,
    PATIENCE,
    WINDOW_NS,
    TelemetryBudget,
)
from smallmind_engine.telemetry import (
    BatchStepped,
    Degraded,
    DegradeReason,
    EventBus,
    EventKind,
    InferenceStopped,
    KernelExecuted,
    RuntimeLogEvent,
    TokenGenerated,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.subscription import METERED_EVERY

TOKEN = int(EventKind.TOKEN_GENERATED)
KERNEL = int(EventKind.KERNEL_EXECUTED)
TENTH_MS = 100_000


class Clock:
    """Nanoseconds that a test moves."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class Slow(Recorder):
    """An inline exporter that takes its time, on the clock of the test."""

    name = "slow"

    def __init__(self, clock: Clock, takes_ns: int) -> None:
        super().__init__()
        self.clock = clock
        self.takes_ns = takes_ns

    def export(self, event: object, /) -> None:
        super().export(event)
        self.clock.ns += self.takes_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


def window(clock: Clock, bus: EventBus, budget: TelemetryBudget, share: float) -> None:
    """A second of which telemetry took ``share``."""
    bus.note_overhead(int(WINDOW_NS * share))
    clock.ns += WINDOW_NS
    budget.check()


def test_it_sheds_one_level_a_window_and_no_more_than_there_is(clock: Clock) -> None:
    bus = EventBus(clock)
    budget = TelemetryBudget(bus, Detail.KERNEL, 0.01)
    levels = []
    for _ in range(4):
        window(clock, bus, budget, 0.02)
        levels.append(budget.level)
    assert levels == [Detail.TOKEN, Detail.REQUEST, Detail.REQUEST, Detail.REQUEST]
    assert budget.ratio == pytest.approx(0.02)
    assert (budget.sheds(KERNEL), budget.sheds(TOKEN)) == (True, True)
    assert bus.shed() == 2


def test_it_comes_back_after_calm_windows_and_is_more_patient_when_that_was_too_soon(
    clock: Clock,
) -> None:
    bus = EventBus(clock)
    budget = TelemetryBudget(bus, Detail.TOKEN, 0.01)
    waited = []
    for _ in range(6):
        window(clock, bus, budget, 0.5)
        assert budget.level is Detail.REQUEST
        count = 0
        while budget.level is Detail.REQUEST:
            window(clock, bus, budget, 0.0)
            count += 1
        waited.append(count)
    assert waited == [PATIENCE * 2**n for n in range(5)] + [MOST_PATIENCE]


def test_a_window_that_is_not_calm_begins_the_wait_anew(clock: Clock) -> None:
    bus = EventBus(clock)
    budget = TelemetryBudget(bus, Detail.TOKEN, 0.01)
    window(clock, bus, budget, 0.5)
    for share in [*[0.0] * (PATIENCE - 1), 0.008, *[0.0] * (PATIENCE - 1)]:
        window(clock, bus, budget, share)
    assert budget.level is Detail.REQUEST
    window(clock, bus, budget, 0.0)
    assert budget.level is Detail.TOKEN


def test_without_a_budget_nothing_is_ever_shed(clock: Clock) -> None:
    bus = EventBus(clock)
    budget = TelemetryBudget(bus, Detail.KERNEL, None)
    window(clock, bus, budget, 0.9)
    assert (budget.level, budget.sheds(TOKEN), bus.shed()) == (Detail.KERNEL, False, 0)


def test_what_the_engine_leaves_out_anyway_is_not_counted_as_shed(clock: Clock) -> None:
    bus = EventBus(clock)
    budget = TelemetryBudget(bus, Detail.TOKEN, 0.01)
    window(clock, bus, budget, 0.5)
    assert not budget.sheds(KERNEL)


def test_shedding_and_coming_back_are_told(clock: Clock) -> None:
    bus = EventBus(clock)
    recorder = Recorder()
    bus.subscribe(recorder)
    budget = TelemetryBudget(bus, Detail.TOKEN, 0.01)
    window(clock, bus, budget, 0.5)
    budget.sheds(TOKEN)
    for _ in range(PATIENCE):
        window(clock, bus, budget, 0.0)
    (shed,) = recorder.of(Degraded)
    assert (shed.component, shed.reason) == ("telemetry", DegradeReason.TELEMETRY_SHED)
    assert "50.0% of the time, its budget is 1.0%; detail is now request" in shed.message
    (back,) = recorder.of(RuntimeLogEvent)
    assert back.properties == {"detail": "token", "shed_events": 1}


def test_a_slow_inline_exporter_is_measured_exactly_where_events_are_rare(clock: Clock) -> None:
    bus = EventBus(clock)
    slow = Slow(clock, TENTH_MS)
    bus.subscribe(slow)
    bus.report_shed("three")
    bus.report_shed("of")
    bus.report_shed("them")
    (health,) = bus.health()
    assert health.publish_s == pytest.approx(3 * TENTH_MS / 1e9)
    assert bus.overhead_ns == 3 * TENTH_MS


def test_of_frequent_events_every_thirteenth_counts_for_all(clock: Clock) -> None:
    bus = EventBus(clock)
    bus.subscribe(Slow(clock, TENTH_MS))
    emitter = bus.emitter()
    for index in range(METERED_EVERY * 5):
        emitter.publish(TokenGenerated(*emitter.header(), "m", index, 0.0, 0.0))
    assert bus.overhead_ns == METERED_EVERY * 5 * TENTH_MS


def test_what_an_exporter_took_stays_counted_when_it_leaves(clock: Clock) -> None:
    bus = EventBus(clock)
    subscription = bus.subscribe(Slow(clock, TENTH_MS))
    bus.report_shed("once")
    subscription.close()
    assert bus.overhead_ns == TENTH_MS


def test_an_engine_over_budget_sheds_and_makes_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("smallmind._load.EventBus", lambda: EventBus(clock))
    options = {"max_tokens": 60, "temperature": 1.0, "seed": 4, "ignore_eos": True}
    with tiny_engine(tmp_path) as plain:
        expected = plain.generate("the", **options).token_ids
    slow = Slow(clock, WINDOW_NS // 4)
    with tiny_engine(tmp_path, exporters=[slow], detail="kernel", telemetry_budget=0.01) as engine:
        result = engine.generate("the", **options)
        stats = engine.stats()
        (health,) = engine.exporter_health
    assert result.token_ids == expected
    assert stats.telemetry_level is Detail.REQUEST
    assert len(slow.of(TokenGenerated)) < 60
    told = [event.message for event in slow.of(Degraded)]
    assert [message.rpartition(" ")[2] for message in told] == ["token", "request"]
    missing = 60 - len(slow.of(TokenGenerated))
    steps = stats.steps - len(slow.of(BatchStepped))
    kernel_steps = stats.steps - sum(e.op == "output" for e in slow.of(KernelExecuted))
    assert stats.telemetry_shed == health.shed == missing + steps + kernel_steps
    assert stats.telemetry_overhead_s == pytest.approx(health.publish_s)
    assert len(slow.of(InferenceStopped)) == 1


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_budget_that_is_no_share_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="telemetry_budget"):
        tiny_engine(tmp_path, telemetry_budget=share)

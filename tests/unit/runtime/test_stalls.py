"""Late tokens are told with what held them up; others are not."""

from __future__ import annotations

import gc
from pathlib import Path
from threading import Thread

import pytest

from engines import Recorder, tiny_engine
from smallmind_engine.runtime.stalls import GcPauses, StallWatch, Usage, read_usage
from smallmind_engine.telemetry import (
    InferenceStopped,
    RuntimeStalled,
    StallCause,
    as_log_event,
    new_correlation,
)

MS = 1_000_000


class Machine:
    """A clock and the system's counts, which a test moves."""

    def __init__(self) -> None:
        self.ns = 1
        self.usage = Usage(0, 0, 0)
        self.pauses = GcPauses(lambda: self.ns)
        self.watch = StallWatch(self.pauses, lambda: self.usage)

    def collect(self, generation: int, ms: float) -> None:
        self.pauses.told("start", {"generation": generation})
        self.ns += int(ms * MS)
        self.pauses.told("stop", {"generation": generation})

    def step(self, ms: float, *, gc_ms: float = 0.0, sequences: int = 1, **counts: int) -> object:
        self.watch.begin()
        if gc_ms:
            self.collect(2, gc_ms)
        self.usage = Usage(*(a + counts.get(n, 0) for n, a in self.usage._asdict().items()))
        return self.watch.end(int(ms * MS), sequences)


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    yield made
    made.watch.stop()


def settled(machine: Machine) -> Machine:
    assert [machine.step(10) for _ in range(16)] == [None] * 16
    return machine


def test_a_long_collection_is_told_with_its_generation_and_time(machine: Machine) -> None:
    stall = settled(machine).step(210, gc_ms=190)
    assert (stall.cause, stall.gc_s) == (StallCause.GC, (0.0, 0.0, pytest.approx(0.19)))
    assert (stall.duration_s, stall.typical_s) == (pytest.approx(0.21), pytest.approx(0.01))


def test_a_collection_is_told_also_before_anything_is_known_to_be_usual(machine: Machine) -> None:
    stall = machine.step(30, gc_ms=20, sequences=0)
    assert (stall.cause, stall.typical_s) == (StallCause.GC, 0.0)


def test_a_collection_between_two_steps_belongs_to_the_token_that_waited_for_it(
    machine: Machine,
) -> None:
    settled(machine)
    machine.collect(1, 50)
    stall = machine.step(10)
    assert stall.duration_s == pytest.approx(0.06)
    assert stall.gc_s[1] == pytest.approx(0.05)


def test_a_collection_while_nothing_was_to_do_delays_nobody(machine: Machine) -> None:
    settled(machine)
    machine.watch.rest(idle=False)
    machine.collect(2, 500)
    assert machine.step(10) is None


@pytest.mark.parametrize(
    ("counts", "cause"),
    [
        ({"major_faults": 40, "switches": 3}, StallCause.PAGE_FAULTS),
        ({"minor_faults": 5000}, StallCause.PAGE_FAULTS),
        ({"switches": 3, "minor_faults": 10}, StallCause.PREEMPTED),
        ({}, StallCause.UNKNOWN),
    ],
)
def test_a_late_step_without_a_collection_has_another_cause(
    machine: Machine, counts: dict[str, int], cause: StallCause
) -> None:
    stall = settled(machine).step(100, **counts)
    assert stall.cause is cause
    assert stall.usage == Usage(*(counts.get(name, 0) for name in Usage._fields))


def test_steps_a_little_late_are_not_told(machine: Machine) -> None:
    assert settled(machine).step(29, gc_ms=4) is None


def test_what_is_usual_is_known_by_the_size_of_the_batch(machine: Machine) -> None:
    settled(machine)
    assert machine.step(100, sequences=8) is None


def test_the_collector_is_listened_to_only_while_a_request_runs_and_someone_wants_it(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    seen = []
    with tiny_engine(tmp_path) as engine:
        told = engine._core.scheduler._observer._watch.pauses.told
        engine.generate("the", max_tokens=3, on_token=lambda _: seen.append(told in gc.callbacks))
        assert set(seen) == {False}
        engine.bus.subscribe(recorder)
        with engine.stream("the", max_tokens=9, ignore_eos=True, max_buffered_tokens=1) as stream:
            next(stream)
            assert gc.callbacks.count(told) == 1
        assert engine.drain(5.0)
    assert told not in gc.callbacks


def test_a_real_collection_within_a_step_is_pinned_to_its_token_and_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    garbage = [[index] for index in range(300_000)]
    with tiny_engine(tmp_path, backend="numpy", exporters=[recorder]) as engine:
        runner = type(engine.model.runner)
        forward, steps = runner.forward, []

        def collecting(self: object, *args: object, **kwargs: object) -> object:
            steps.append(None)
            for _ in range(3 if len(steps) == 6 else 0):
                gc.collect()
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(runner, "forward", collecting)
        result = engine.generate("the", max_tokens=10, temperature=0.0, ignore_eos=True)
    assert garbage
    stall = max(recorder.of(RuntimeStalled), key=lambda event: event.gc_total_s)
    assert (stall.index, stall.cause) == (5, StallCause.GC)
    assert stall.correlation == result.correlation
    assert 0.005 < stall.gc_s[2] <= stall.duration_s
    events = recorder.events
    assert events.index(stall) < events.index(recorder.of(InferenceStopped)[0])


def test_a_collection_by_another_thread_within_a_step_is_pinned_to_its_token_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    garbage = [[index] for index in range(400_000)]
    with tiny_engine(tmp_path, backend="numpy", exporters=[recorder]) as engine:
        runner = type(engine.model.runner)
        forward, steps = runner.forward, []

        def collecting(self: object, *args: object, **kwargs: object) -> object:
            steps.append(None)
            if len(steps) == 6:
                other = Thread(target=lambda: [gc.collect() for _ in range(4)])
                other.start()
                other.join()
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(runner, "forward", collecting)
        engine.generate("the", max_tokens=10, temperature=0.0, ignore_eos=True)
    assert garbage
    stall = max(recorder.of(RuntimeStalled), key=lambda event: event.gc_total_s)
    assert (stall.index, stall.cause) == (5, StallCause.GC)


def test_the_explanation_reads_as_one_line() -> None:
    stall = RuntimeStalled(
        *(1, 2, new_correlation()),
        model="m",
        index=37,
        duration_s=0.21,
        typical_s=0.01,
        cause=StallCause.GC,
        gc_s=(0.0, 0.0, 0.19),
        minor_faults=4,
        major_faults=2,
        involuntary_switches=0,
    )
    told = "token 37: 210 ms, of which 190 ms gen-2 GC; 2 page faults from disk"
    assert stall.explanation == told
    assert as_log_event(stall).properties["explanation"] == told


def test_the_system_counts_upwards() -> None:
    before = read_usage()
    assert len(bytearray(32 * 2**20)) == 32 * 2**20
    assert all(now >= then for now, then in zip(read_usage(), before, strict=True))

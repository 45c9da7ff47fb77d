"""With no exporter nothing is built; with any, the tokens stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind_engine.telemetry import (
    BatchStepped,
    EventBus,
    RuntimeStalled,
    batch_events,
    bus,
    events,
    insight_events,
    kernel_events,
)

OPTIONS = {"seed": 3, "temperature": 1.0, "max_tokens": 40, "ignore_eos": True}


def test_no_event_is_built_without_an_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    modules = (events, kernel_events, batch_events, insight_events)
    for cls in [value for module in modules for value in vars(module).values()]:
        if isinstance(cls, type) and issubclass(cls, events.Event) and cls is not events.Event:
            new = cls.__new__

            def counting(made: type, *args: object, _new: object = new, **kwargs: object) -> object:
                built.append(made.__name__)
                return _new(made, *args, **kwargs)  # type: ignore[operator]

            monkeypatch.setattr(cls, "__new__", counting)

    def counting_tuple(made: type, fields: tuple[object, ...]) -> object:
        built.append(made.__name__)
        return tuple.__new__(made, fields)

    monkeypatch.setattr(bus, "_new_tuple", counting_tuple)  # for those of every token
    with tiny_engine(tmp_path) as engine, engine.session() as session:
        engine.generate("the", **OPTIONS)
        session.generate("the", **OPTIONS)
        assert built == []
        recorder = Recorder()
        engine.bus.subscribe(recorder)
        engine.generate("the", **OPTIONS)
    assert len(built) == len(recorder.events) > 40


def test_no_sequence_number_is_spent_without_an_exporter(tmp_path: Path) -> None:
    before = EventBus().emitter().header()[0]
    with tiny_engine(tmp_path) as engine:
        engine.generate("the", **OPTIONS)
    assert EventBus().emitter().header()[0] == before + 1
    assert bus is not None


def test_tokens_are_the_same_with_and_without_exporters(tmp_path: Path) -> None:
    class Raising(Recorder):
        name = "raising"

        def export(self, event: object, /) -> None:
            raise OSError("no")

    with tiny_engine(tmp_path) as plain:
        expected = plain.generate("the", **OPTIONS)
    with tiny_engine(tmp_path, exporters=[Recorder(), Raising()]) as observed:
        got = observed.generate("the", **OPTIONS)
        health = {each.name: each for each in observed.exporter_health}
    assert expected.token_ids == got.token_ids
    assert expected.text == got.text
    assert not health["raising"].attached
    assert health["recorder"].errors == 0


def test_an_exporter_that_comes_late_sees_whole_requests_only(tmp_path: Path) -> None:
    late = Recorder()
    with tiny_engine(tmp_path) as engine:
        with engine.stream("the", **OPTIONS) as stream:
            next(stream)
            engine.bus.subscribe(late)
            list(stream)
        assert late.events == late.of(BatchStepped)  # steps belong to no request
        result = engine.generate("the", **OPTIONS)
    ours = [event for event in late.events if not isinstance(event, BatchStepped)]
    assert {event.correlation for event in ours} == {result.correlation}


def test_events_of_a_request_come_in_order_and_without_gaps(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        engine.generate("the", **{**OPTIONS, "max_tokens": 2})
        events = tuple(recorder.events)
    numbers = [event.sequence for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    times = [event.time_ns for event in events]
    assert times == sorted(times)
    # The garbage collector of a test process may hold a token up at any time.
    names = [type(event).__name__ for event in events if not isinstance(event, RuntimeStalled)]
    lifecycle = names[names.index("RequestQueued") :]
    assert lifecycle == [
        "RequestQueued",
        "RequestAdmitted",
        "MemoryHighWater",
        "KVCacheLookup",
        "InferenceStarted",
        "BatchStepped",
        "PrefillEnded",
        "FirstToken",
        "TokenGenerated",
        "BatchStepped",
        "TokenGenerated",
        "InferenceStopped",
        "RuntimeLogEvent",
        "KVCacheUsage",
    ]

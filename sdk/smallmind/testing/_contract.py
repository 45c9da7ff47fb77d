"""What every exporter must do, as checks that take a way to make one.

The checks raise ``AssertionError``; none needs a model. An exporter under test must be ready to
deliver: give its receiver an address before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

from smallmind.testing._fork import forked_delivery
from smallmind.testing._samples import every_event, request_events, sample_correlation
from smallmind_engine.telemetry import (
    ALL_KINDS,
    Event,
    EventBus,
    Exporter,
    ExporterHealth,
    FlushResult,
    QueuedExporter,
    TokenGenerated,
)

MakeExporter = Callable[[], Exporter]

FLUSH_S: Final = 5.0
"""How long a flush may take on a busy machine when the receiver is well."""

OVERTIME_S: Final = 1.0
"""By how much a flush may exceed its time on a busy machine."""

PUBLISH_S: Final = 2.0
"""In how long a thousand events must be published, whatever the exporter does with them."""


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    """Raise ``AssertionError`` with ``message`` unless ``condition``."""
    if not condition:
        raise AssertionError(message)


def _wanted(exporter: Exporter, events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.kind & exporter.interests]


def _export(exporter: Exporter, events: Iterable[Event]) -> None:
    for event in events:
        exporter.export(event)


def _require_complete(exporter: Exporter) -> None:
    result = exporter.flush(FLUSH_S)
    require(result.complete, f"after a flush of {FLUSH_S} s not all is delivered: {result}")


def check_it_says_what_it_is(make: MakeExporter) -> None:
    """Name, interests and inline have values that the bus can use."""
    exporter = make()
    require(bool(exporter.name), "the name is empty")
    require(exporter.name == exporter.name.lower(), f"{exporter.name!r} is not in lower case")
    require(
        bool(exporter.interests) and not exporter.interests & ~ALL_KINDS,
        f"interests are {exporter.interests:#x}, no mask of the kinds of events",
    )
    require(exporter.inline in {True, False}, f"inline is {exporter.inline!r}, not a bool")
    exporter.close()


def check_it_takes_every_kind_of_event(make: MakeExporter) -> None:
    """Each type of event that it is interested in is delivered."""
    exporter = make()
    _export(exporter, _wanted(exporter, every_event()))
    _require_complete(exporter)
    exporter.close()


def check_odd_values_do_it_no_harm(make: MakeExporter) -> None:
    """Not-a-numbers, negative durations, and names that break lines, quotes or UTF-8."""
    exporter = make()
    odd = (float("nan"), float("inf"), -1.0)
    names = ("", 'quote " backslash \\ line\n', "x" * 10_000, "\ud800", "ünïcödé", "\x1b[2J")
    for name in names:
        _export(exporter, _wanted(exporter, request_events(model=name)))
        if exporter.interests & TokenGenerated.kind:
            ids = sample_correlation()
            tokens = (TokenGenerated(1, 1, ids, name, 1, value, value) for value in odd)
            _export(exporter, tokens)
    _require_complete(exporter)
    exporter.close()


def check_flush_keeps_to_its_time(make: MakeExporter) -> None:
    """Flush answers in the time it is given, near enough."""
    exporter = make()
    _export(exporter, _wanted(exporter, request_events()))
    before = time.monotonic()
    result = exporter.flush(0.5)
    took_s = time.monotonic() - before
    require(isinstance(result, FlushResult), f"flush answered {result!r}, no FlushResult")
    require(took_s < 0.5 + OVERTIME_S, f"a flush of 0.5 s took {took_s:.2f} s")
    exporter.close()


def check_flush_tells_what_was_delivered(make: MakeExporter) -> None:
    """Flush counts every event that was delivered, and no other."""
    exporter = make()
    events = _wanted(exporter, request_events())
    _export(exporter, events)
    result = exporter.flush(FLUSH_S)
    expected = FlushResult(delivered=len(events))
    require(result == expected, f"flush answered {result}, expected {expected}")
    exporter.close()


def check_close_may_be_called_twice(make: MakeExporter) -> None:
    """The second close does nothing."""
    exporter = make()
    exporter.close()
    exporter.close()


def check_what_comes_after_close_is_ignored(make: MakeExporter) -> None:
    """Late events of other threads neither raise nor count."""
    exporter = make()
    exporter.close()
    _export(exporter, _wanted(exporter, request_events()))
    result = exporter.flush(0.1)
    require(result == FlushResult(), f"a closed exporter that got nothing before says {result}")


def check_two_may_live_in_one_process(make: MakeExporter) -> None:
    """A second engine may have an exporter of the same type at the same time."""
    exporters = (make(), make())
    for exporter in exporters:
        _export(exporter, _wanted(exporter, request_events()))
    for exporter in exporters:
        _require_complete(exporter)
        exporter.close()


def check_many_threads_lose_nothing(make: MakeExporter) -> None:
    """Requests in many threads at once are delivered to the last event."""
    threads, requests = 8, 25
    exporter = make()
    bus = EventBus()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(requests):
                _publish(bus, f"req-{number}-{turn}")
        except BaseException as error:  # noqa: BLE001 - told below, in the caller's thread
            failures.append(error)

    with bus.subscribe(exporter):
        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        flushed = bus.flush(2 * FLUSH_S)[exporter.name]
        (health,) = bus.health()
    exporter.close()
    expected = FlushResult(delivered=threads * requests * len(_wanted(exporter, request_events())))
    require(not failures, f"publishing raised {failures}")
    require(flushed == expected, f"flush answered {flushed}, expected {expected}")
    _require_healthy(health)


def check_it_does_not_hold_up_the_publisher(make: MakeExporter) -> None:
    """A thousand events are published in two seconds, however slow the receiver is."""
    exporter = make()
    bus = EventBus()
    with bus.subscribe(exporter):
        before = time.monotonic()
        for turn in range(100):
            _publish(bus, f"req-{turn}")
        took_s = time.monotonic() - before
        bus.flush(2 * FLUSH_S)
        (health,) = bus.health()
    exporter.close()
    require(took_s < PUBLISH_S, f"publishing a thousand events took {took_s:.2f} s")
    _require_healthy(health)


def check_events_keep_their_order(make: MakeExporter) -> None:
    """Behind the bus's queue the events of a request arrive in order, once each."""
    exporter = make()
    seen: list[int] = []
    export = exporter.export

    class Listening:
        name = exporter.name
        interests = exporter.interests
        inline = False

        def export(self, event: Event, /) -> None:
            seen.append(event.sequence)
            export(event)

        def flush(self, timeout_s: float) -> FlushResult:
            return exporter.flush(timeout_s)

        def close(self) -> None:
            exporter.close()

    queue = QueuedExporter(Listening())
    _export(queue, _wanted(exporter, request_events(tokens=50)))
    result = queue.flush(FLUSH_S)
    queue.close()
    require(result.complete, f"not all was delivered: {result}")
    require(all(a < b for a, b in pairwise(seen)), f"events arrived as {seen}")


def check_a_forked_child_starts_afresh(make: MakeExporter) -> None:
    """A child delivers its own events, and none of its parent's; the parent loses none."""
    fault = forked_delivery(make)
    require(not fault, fault)


CHECKS: Final[tuple[Callable[[MakeExporter], None], ...]] = (
    check_it_says_what_it_is,
    check_it_takes_every_kind_of_event,
    check_odd_values_do_it_no_harm,
    check_flush_keeps_to_its_time,
    check_flush_tells_what_was_delivered,
    check_close_may_be_called_twice,
    check_what_comes_after_close_is_ignored,
    check_two_may_live_in_one_process,
    check_many_threads_lose_nothing,
    check_it_does_not_hold_up_the_publisher,
    check_events_keep_their_order,
    check_a_forked_child_starts_afresh,
)


def check_exporter(make: MakeExporter) -> None:
    """Hold an exporter against the contract.

    Args:
        make: makes a fresh one, ready to deliver; called once or twice for each check.

    Raises:
        AssertionError: it does not keep the contract; the message has a line for each fault.
    """
    faults = []
    for check in CHECKS:
        try:
            check(make)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a fault of the exporter
            faults.append(f"{check.__name__}: {type(error).__name__}: {error}")
    require(not faults, f"{len(faults)} of {len(CHECKS)} checks failed:\n" + "\n".join(faults))


class ExporterContract:
    """The contract as a class of tests, one for each check: derive from it, and give ``make``.

    Example:
        class TestMine(ExporterContract):
            def make(self):
                return MyExporter()
    """

    def make(self) -> Exporter:
        """Make a fresh exporter, ready to deliver."""
        raise NotImplementedError


def _as_test(check: Callable[[MakeExporter], None]) -> Callable[[ExporterContract], None]:
    def test(self: ExporterContract) -> None:
        check(self.make)

    test.__doc__ = check.__doc__
    return test


for _check in CHECKS:
    setattr(ExporterContract, "test_" + _check.__name__.removeprefix("check_"), _as_test(_check))


def _publish(bus: EventBus, request_id: str) -> None:
    emitter = bus.emitter(sample_correlation(request_id))
    for event in request_events(emitter.correlation):
        if emitter.wants & event.kind:
            emitter.publish(event)


def _require_healthy(health: ExporterHealth) -> None:
    require(
        (health.errors, health.dropped, health.attached) == (0, 0, True),
        f"the bus says {health}",
    )

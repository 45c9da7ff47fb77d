"""What every exporter must do, as checks that take a way to make one.

Run them over all exporters by parametrisation: ``for check in CHECKS: check(make)``.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

from smallmind_engine.telemetry import (
    ALL_KINDS,
    EventBus,
    Exporter,
    FlushResult,
    TokenGenerated,
)
from telemetry_events import correlation, every_kind, headers, publish, request

MakeExporter = Callable[[], Exporter]


def check_it_says_what_it_is(make: MakeExporter) -> None:
    exporter = make()
    assert exporter.name
    assert exporter.name == exporter.name.lower()
    assert exporter.interests
    assert exporter.interests & ~ALL_KINDS == 0
    assert exporter.inline in {True, False}
    exporter.close()


def check_it_takes_every_kind_of_event(make: MakeExporter) -> None:
    exporter = make()
    for event in every_kind(headers()):
        if event.kind & exporter.interests:
            exporter.export(event)
    assert exporter.flush(1.0).complete
    exporter.close()


def check_odd_values_do_it_no_harm(make: MakeExporter) -> None:
    exporter = make()
    odd = (float("nan"), float("inf"), -1.0)
    names = ("", 'quote " backslash \\ line\n', "x" * 10_000, "\ud800", "ünïcödé")
    header = headers()
    for value in odd:
        for name in names:
            exporter.export(
                TokenGenerated(*header(), model=name, index=1, engine_s=value, consumer_s=value)
            )
    assert exporter.flush(1.0).complete
    exporter.close()


def check_flush_keeps_to_its_time(make: MakeExporter) -> None:
    exporter = make()
    for event in request(headers()):
        exporter.export(event)
    before = time.monotonic()
    result = exporter.flush(0.5)
    assert isinstance(result, FlushResult)
    assert time.monotonic() - before < 1.5
    exporter.close()


def check_flush_tells_what_was_delivered(make: MakeExporter) -> None:
    exporter = make()
    events = [event for event in request(headers()) if event.kind & exporter.interests]
    for event in events:
        exporter.export(event)
    assert exporter.flush(1.0) == FlushResult(delivered=len(events))
    exporter.close()


def check_close_may_be_called_twice(make: MakeExporter) -> None:
    exporter = make()
    exporter.close()
    exporter.close()


def check_what_comes_after_close_is_ignored(make: MakeExporter) -> None:
    exporter = make()
    exporter.close()
    for event in request(headers()):
        exporter.export(event)
    assert exporter.flush(0.1) == FlushResult()


def check_many_threads_lose_nothing(make: MakeExporter) -> None:
    exporter = make()
    threads, requests = 8, 25
    bus = EventBus()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(requests):
                publish(bus, request, correlation(f"req-{number}-{turn}"))
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(error)

    with bus.subscribe(exporter):
        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        flushed = bus.flush(5.0)[exporter.name]
        (health,) = bus.health()
    wanted = sum(bool(event.kind & exporter.interests) for event in request(headers()))
    assert failures == []
    assert flushed == FlushResult(delivered=threads * requests * wanted)
    assert (health.errors, health.dropped, health.attached) == (0, 0, True)
    exporter.close()


_FORK = """
import importlib, os, sys
sys.path[:0] = {path!r}
from telemetry_events import headers, request
exporter = getattr(importlib.import_module({module!r}), {name!r})()
events = [event for event in request(headers()) if event.kind & exporter.interests]
for event in events:
    exporter.export(event)
pid = os.fork()
if pid == 0:
    code = 1
    try:
        for event in events[:3]:
            exporter.export(event)
        result = exporter.flush(2.0)
        exporter.close()
        code = 0 if (result.complete and result.delivered == 3) else 2
    finally:
        os._exit(code)
_, status = os.waitpid(pid, 0)
assert exporter.flush(2.0).delivered == len(events)
exporter.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def check_a_forked_child_starts_afresh(make: MakeExporter) -> None:
    exporter = make()
    exporter.close()
    kind = type(exporter)
    script = _FORK.format(path=sys.path, module=kind.__module__, name=kind.__qualname__)
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


CHECKS = (
    check_it_says_what_it_is,
    check_it_takes_every_kind_of_event,
    check_odd_values_do_it_no_harm,
    check_flush_keeps_to_its_time,
    check_flush_tells_what_was_delivered,
    check_close_may_be_called_twice,
    check_what_comes_after_close_is_ignored,
    check_many_threads_lose_nothing,
    check_a_forked_child_starts_afresh,
)

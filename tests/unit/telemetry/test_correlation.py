"""Ids are captured once, and cross threads, executors, generators and tasks."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from smallmind_engine.telemetry import (
    Correlation,
    EventBus,
    TraceContext,
    correlated,
    current_correlation,
    new_correlation,
    parse_traceparent,
)
from telemetry_doubles import IDS, Recorder, publish_tokens

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

# From the examples and rules of W3C Trace Context, sections 3.2.2 to 3.2.4 and 4.
WELL_FORMED = [
    (f"00-{TRACE}-{SPAN}-01", 1),
    (f"00-{TRACE}-{SPAN}-00", 0),
    (f"00-{TRACE}-{SPAN}-09", 1),
    (f"00-{TRACE}-{SPAN}-ff", 1),
    (f"cc-{TRACE}-{SPAN}-01", 1),
    (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
    (f" \t00-{TRACE}-{SPAN}-01 ", 1),
]
MALFORMED = [
    "",
    "00",
    "garbage",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN.upper()}-01",
    f"00-{TRACE}-{SPAN}-0A",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"cc-{TRACE}-{SPAN}-01.extra",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE}0-{SPAN}-01",
    f"00-{TRACE}-{SPAN}0-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00_{TRACE}_{SPAN}_01",
    f"0-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01",
    f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
]


@pytest.mark.parametrize(("header", "flags"), WELL_FORMED)
def test_a_well_formed_traceparent_is_read(header, flags):
    assert TraceContext(TRACE, SPAN, flags) == parse_traceparent(header)


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_traceparent_is_ignored_and_a_new_trace_begins(header):
    assert parse_traceparent(header) is None
    fresh = new_correlation(traceparent=header)
    assert not fresh.has_parent
    assert fresh.trace_id != TRACE


def test_a_callers_traceparent_becomes_the_parent():
    made = new_correlation(traceparent=f"00-{TRACE}-{SPAN}-01", session_id="s", request_id="r")
    assert Correlation("r", "s", TRACE, SPAN, 1, has_parent=True) == made
    assert made.traceparent == f"00-{TRACE}-{SPAN}-01"


# From the examples and rules of W3C Trace Context, section 3.3.1.
@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (" rojo=1 ,\t, congo= 2", "rojo=1,congo= 2"),
        ("fw529a3039@dt=FfffFf8", "fw529a3039@dt=FfffFf8"),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        ("rojo=1,rojo=2", ""),
        ("Rojo=1", ""),
        ("rojo=", ""),
        ("rojo=a=b", ""),
        ("rojo=1\r\nX-Other: 2", ""),
        ("rojo", ""),
        ("", ""),
    ],
)
def test_a_tracestate_is_kept_when_all_of_it_is_well_formed(header, kept):
    made = new_correlation(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate=header)
    assert made.trace_state == kept


def test_a_tracestate_without_a_traceparent_that_can_be_used_is_ignored():
    assert new_correlation(tracestate="rojo=1").trace_state == ""
    assert new_correlation(traceparent="garbage", tracestate="rojo=1").trace_state == ""


def test_the_tracestate_of_the_hosts_span_and_of_the_operation_around_is_taken():
    outer = new_correlation(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="rojo=1")
    with correlated(outer):
        assert new_correlation().trace_state == "rojo=1"
    remote = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "congo=2"}
    context = TraceContextTextMapPropagator().extract(remote)
    tracer = TracerProvider().get_tracer("host")
    with tracer.start_as_current_span("work", context=context):
        assert new_correlation().trace_state == "congo=2"


def test_fresh_ids_are_well_formed_and_differ():
    first, second = new_correlation(), new_correlation()
    assert first.request_id != second.request_id
    assert first.trace_id != second.trace_id
    assert parse_traceparent(first.traceparent).trace_id == first.trace_id
    assert (first.session_id, first.has_parent, first.trace_flags) == (None, False, 1)


def test_ids_that_come_out_all_zero_are_drawn_again(monkeypatch):
    draws = iter([bytes(16), b"\1" * 16, bytes(8), b"\2" * 8, b"\3" * 10])
    monkeypatch.setattr("smallmind_engine.telemetry.correlation.os.urandom", lambda n: next(draws))
    made = new_correlation()
    assert (made.trace_id, made.span_id, made.request_id) == (
        "01" * 16,
        "02" * 8,
        "req-" + "03" * 10,
    )


def test_an_operation_inside_another_is_its_child():
    with correlated(IDS):
        inner = new_correlation()
    assert (IDS.trace_id, IDS.span_id, True) == (inner.trace_id, inner.span_id, inner.has_parent)
    assert inner.request_id != IDS.request_id


def test_the_current_ids_are_those_of_the_innermost_block():
    assert current_correlation() is None
    inner = new_correlation()
    with correlated(IDS):
        with correlated(inner):
            assert current_correlation() is inner
        assert current_correlation() is IDS
    assert current_correlation() is None


def test_the_hosts_span_becomes_the_parent():
    tracer = TracerProvider().get_tracer("host")
    with tracer.start_as_current_span("work") as span:
        made = new_correlation()
        carrier = {}
        TraceContextTextMapPropagator().inject(carrier)
    context = span.get_span_context()
    assert made.has_parent
    assert (context.trace_id, context.span_id) == (int(made.trace_id, 16), int(made.span_id, 16))
    assert parse_traceparent(carrier["traceparent"]) == parse_traceparent(made.traceparent)


def test_the_hosts_decision_not_to_sample_is_kept():
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("host")
    with tracer.start_as_current_span("work"):
        assert (new_correlation().has_parent, new_correlation().trace_flags) == (True, 0)


def test_the_hosts_span_goes_before_the_operation_around_and_after_the_callers_header():
    tracer = TracerProvider().get_tracer("host")
    with correlated(IDS), tracer.start_as_current_span("work"):
        assert new_correlation().trace_id != IDS.trace_id
        assert new_correlation(traceparent=f"00-{TRACE}-{SPAN}-01").trace_id == TRACE


def test_opentelemetry_reads_our_traceparent():
    made = new_correlation()
    context = TraceContextTextMapPropagator().extract({"traceparent": made.traceparent})
    [span] = context.values()
    assert int(made.trace_id, 16) == span.get_span_context().trace_id


@pytest.mark.parametrize("broken", [object(), type("M", (), {"get_current_span": lambda: 1 / 0})])
def test_a_broken_or_half_imported_opentelemetry_is_as_good_as_none(monkeypatch, broken):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", broken)
    assert not new_correlation().has_parent


def test_it_works_and_imports_nothing_foreign_without_opentelemetry():
    program = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"opentelemetry", "prometheus_client", "structlog", "numpy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from smallmind_engine.telemetry import new_correlation
made = new_correlation()
assert len(made.trace_id) == 32 and not made.has_parent
foreign = {"opentelemetry", "prometheus_client", "structlog", "numpy", "regex"} & set(sys.modules)
assert not foreign, foreign
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_ids_on_an_emitter_cross_threads_and_executors():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    emitter = bus.emitter(IDS)
    thread = threading.Thread(target=publish_tokens, args=(emitter, 2))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: publish_tokens(emitter, 1), range(4)))
    assert {IDS} == {event.correlation for event in recorder.events}
    assert len(recorder.events) == 6


def test_ids_on_an_emitter_cross_a_generator_that_another_thread_consumes():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)

    def stream(emitter):
        for _ in range(3):
            publish_tokens(emitter, 1)
            yield

    with correlated(IDS):
        chunks = stream(bus.emitter())
    next(chunks)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(list, chunks).result()
    assert [event.correlation for event in recorder.events] == [IDS] * 3


def test_tasks_of_one_loop_each_see_their_own_ids():
    async def request(ids):
        with correlated(ids):
            await asyncio.sleep(0)
            own = current_correlation()
            in_thread = await asyncio.to_thread(current_correlation)
            return own is ids and in_thread is ids

    async def main():
        return await asyncio.gather(*(request(new_correlation()) for _ in range(20)))

    assert all(asyncio.run(main()))
    assert current_correlation() is None


def test_a_thread_starts_without_the_ids_unless_given_the_context():
    seen = []
    with correlated(IDS):
        context = contextvars.copy_context()
        for target in (current_correlation, lambda: context.run(current_correlation)):
            thread = threading.Thread(target=lambda target=target: seen.append(target()))
            thread.start()
            thread.join()
    assert seen == [None, IDS]


def test_a_generator_that_is_closed_in_another_context_does_not_raise():
    def stream():
        with correlated(IDS):
            yield

    chunks = stream()
    contextvars.copy_context().run(next, chunks)
    chunks.close()
    assert current_correlation() is None

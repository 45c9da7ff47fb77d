"""Laws of the traceparent header, against OpenTelemetry's own parser."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from smallmind_engine.telemetry import TraceContext, new_correlation, parse_traceparent

law = settings(derandomize=True, deadline=None, max_examples=100)


def hex_digits(n):
    return st.text("0123456789abcdef", min_size=n, max_size=n)


def ids(n):
    return hex_digits(n).filter(lambda digits: digits.strip("0"))


contexts = st.builds(TraceContext, ids(32), ids(16), st.sampled_from((0, 1)))
near_headers = st.from_regex(
    r"[0-9a-fA-F]{1,3}-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-fg]{1,3}(-.{0,3})?", fullmatch=True
)


@law
@given(contexts)
def test_what_is_written_is_read_back(context):
    assert parse_traceparent(context.traceparent) == context


@law
@given(st.text())
def test_any_text_at_all_is_a_context_or_none_and_never_an_error(header):
    context = parse_traceparent(header)
    assert context is None or parse_traceparent(context.traceparent) == context
    assert len(new_correlation(traceparent=header).trace_id) == 32


@law
@given(st.one_of(contexts.map(lambda c: c.traceparent), near_headers))
@example("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
@example("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more")
def test_opentelemetry_reads_the_same_from_what_we_accept(header):
    context = parse_traceparent(header)
    if context is None:
        return
    spans = list(TraceContextTextMapPropagator().extract({"traceparent": header}).values())
    assert [(context.trace_id, context.span_id)] == [
        (f"{s.get_span_context().trace_id:032x}", f"{s.get_span_context().span_id:016x}")
        for s in spans
    ]


@law
@given(contexts, st.integers(0, 255))
def test_only_the_sampled_bit_of_the_flags_is_kept(context, flags):
    read = parse_traceparent(f"00-{context.trace_id}-{context.span_id}-{flags:02x}")
    assert read.trace_flags == flags & 1

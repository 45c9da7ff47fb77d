"""Ids of spans: the request's own, as its log lines, exemplars and result carry them."""

from __future__ import annotations

import threading

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from smallmind_engine.telemetry import Correlation


class _Expected(threading.local):
    trace_id: int | None = None
    span_id: int | None = None


class RequestIds(IdGenerator):
    """Answers with the ids that were set for the next span, and else with those of another.

    Args:
        others: makes the ids of all other spans.
    """

    def __init__(self, others: IdGenerator | None = None) -> None:
        self._others = others or RandomIdGenerator()
        self._next = _Expected()

    def expect(self, ids: Correlation) -> None:
        """Give the next span that this thread begins the ids of a request."""
        self._next.trace_id = int(ids.trace_id, 16)
        self._next.span_id = int(ids.span_id, 16)

    def forget(self) -> None:
        """Give no span those ids any more; a sampler may have begun none."""
        self._next.trace_id = self._next.span_id = None

    def generate_trace_id(self) -> int:
        """The expected id, once; else one of the others."""
        expected, self._next.trace_id = self._next.trace_id, None
        return self._others.generate_trace_id() if expected is None else expected

    def generate_span_id(self) -> int:
        """The expected id, once; else one of the others."""
        expected, self._next.span_id = self._next.span_id, None
        return self._others.generate_span_id() if expected is None else expected


def ids_of(tracer: Tracer) -> RequestIds | None:
    """Have a tracer take the ids of requests; None when it is of a kind that cannot.

    The tracer is that of our own scope, so no other span of the host is concerned.
    """
    present = getattr(tracer, "id_generator", None)
    if isinstance(present, RequestIds):
        return present
    if not isinstance(present, IdGenerator):
        return None
    ids = RequestIds(present)
    tracer.id_generator = ids  # type: ignore[attr-defined]  # of the SDK's tracers
    return ids


def context_of(ids: Correlation) -> Context:
    """A context whose current span is the one that ``ids`` name."""
    span = SpanContext(
        int(ids.trace_id, 16),
        int(ids.span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(ids.trace_flags),
        trace_state=TraceState.from_header([ids.trace_state]) if ids.trace_state else None,
    )
    return set_span_in_context(NonRecordingSpan(span), Context())

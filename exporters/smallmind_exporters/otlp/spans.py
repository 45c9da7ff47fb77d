"""Makes the spans of an operation from the events that it left, with their true times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from smallmind_engine.telemetry import (
    ANCHOR,
    Event,
    InferenceStopped,
    TokenGenerated,
)
from smallmind_exporters.otlp import attributes as names
from smallmind_exporters.otlp.attributes import (
    OperationSpan,
    clean_text,
    cleaned,
    error_type,
    event_attributes,
    plain_attributes,
)
from smallmind_exporters.otlp.identity import context_of, ids_of
from smallmind_exporters.otlp.records import Record
from smallmind_exporters.otlp.span_tables import (
    KERNEL_EVENT,
    KERNEL_FIELDS,
    MOST_FIELDS,
    PHASES,
    STEP_EVENTS,
    TOKEN_EVENT,
    TOKEN_FIELDS,
)
from smallmind_exporters.otlp.tail import ExpansionCause, SpanDetail


@dataclass(frozen=True, slots=True)
class Telling:
    """How much to tell of one request.

    Attributes:
        detail: the level.
        cause: why it is more than usual, when it is.
        content: whether ids of tokens may be told.
    """

    detail: SpanDetail
    cause: ExpansionCause | None = None
    content: bool = False


class SpanBuilder:
    """Makes spans with a tracer of the API, so that any provider may be behind it.

    Args:
        tracer: of our own scope.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._ids = ids_of(tracer)

    def request(self, record: Record, stop: InferenceStopped, telling: Telling) -> bool:
        """Make the spans of a request that ended.

        Returns:
            Whether the sampler let them be recorded.
        """
        begin_ns = min(record.steps[0].time_ns, stop.time_ns - int(stop.duration_s * 1e9))
        span = self._begin(
            record,
            f"{stop.operation} {stop.model}",
            names.request_attributes(record, stop, at_start=True),
            begin_ns,
        )
        if not span.is_recording():
            return False
        span.set_attributes(names.request_attributes(record, stop, at_start=False))
        span.set_attributes(_told(record, telling))
        failure = error_type(stop)
        if failure is not None:
            span.set_status(StatusCode.ERROR, failure)
        _add_steps(span, record)
        self._phases(span, record, stop, telling)
        span.end(ANCHOR.to_wall_ns(stop.time_ns))
        return True

    def operation(self, record: Record, end: Event, how: OperationSpan) -> bool:
        """Make the span of another operation that ended; answers as ``request`` does."""
        begin_ns = min(record.steps[0].time_ns, end.time_ns - int(how.duration_s(end) * 1e9))
        span = self._begin(record, how.name(end), cleaned(how.attributes(end)), begin_ns)
        if not span.is_recording():
            return False
        failure = how.failure(end)
        if failure is not None:
            span.set_status(StatusCode.ERROR, failure)
        _add_steps(span, record)
        span.end(ANCHOR.to_wall_ns(end.time_ns))
        return True

    def _begin(
        self, record: Record, name: str, attributes: names.Attributes, begin_ns: int
    ) -> Span:
        ids = record.correlation
        context = context_of(ids)
        if self._ids is not None and not ids.has_parent:
            # Without a parent the span itself has the ids that everything else carries.
            context = Context()
            self._ids.expect(ids)
        try:
            return self._tracer.start_span(
                clean_text(name),
                context=context,
                kind=SpanKind.INTERNAL,
                attributes=attributes,
                start_time=ANCHOR.to_wall_ns(begin_ns),
            )
        finally:
            if self._ids is not None:
                self._ids.forget()

    def _phases(
        self, parent: Span, record: Record, stop: InferenceStopped, telling: Telling
    ) -> None:
        context = set_span_in_context(parent, Context())
        details = list(_details(record, telling))
        kernels = [detail for detail in details if detail[1] is KERNEL_EVENT]
        for phase in PHASES:
            begin = record.first(phase.begin)
            if begin is None:
                continue
            end = record.first(phase.end) or stop
            fields = phase.fields if end.kind is phase.end else ()
            span = self._tracer.start_span(
                phase.name,
                context=context,
                attributes=event_attributes(end, fields),
                start_time=ANCHOR.to_wall_ns(begin.time_ns),
            )
            add = _way_to_add_details(span)
            for event, name, chosen in details if phase.details else kernels:
                if begin.time_ns < event.time_ns <= end.time_ns:
                    add(name, plain_attributes(event, chosen), ANCHOR.to_wall_ns(event.time_ns))
            span.end(ANCHOR.to_wall_ns(end.time_ns))


def _way_to_add_details(span: Span) -> Callable[[str, names.Attributes, int], None]:
    """How a span takes events whose attributes are few and need no cleaning.

    A span of the SDK copies and checks attributes in three times the time of everything else,
    once for each token. Unless it is to cut some off, they can be given to it as they are.
    """
    add, limits = getattr(span, "_add_event", None), getattr(span, "_limits", None)
    if add is None or limits is None or limits.max_attribute_length is not None:
        return span.add_event
    if limits.max_event_attributes is not None and limits.max_event_attributes < MOST_FIELDS:
        return span.add_event
    return lambda name, attributes, time_ns: add(SpanEvent(name, attributes, time_ns))


def _details(record: Record, telling: Telling) -> Iterable[tuple[Event, str, tuple[str, ...]]]:
    if telling.detail is SpanDetail.REQUEST:
        return
    fields = (*TOKEN_FIELDS, "token_id") if telling.content else TOKEN_FIELDS
    for token in record.tokens:
        yield token, TOKEN_EVENT, fields
    if telling.detail is SpanDetail.KERNEL:
        for kernel in record.kernels:
            yield kernel, KERNEL_EVENT, KERNEL_FIELDS


def _told(record: Record, telling: Telling) -> names.Attributes:
    told: dict[str, names.Value] = {names.DETAIL: telling.detail.value}
    if telling.cause is not None:
        told[names.DETAIL_CAUSE] = telling.cause.value
    if telling.detail is not SpanDetail.REQUEST and record.token_count > len(record.tokens):
        told[names.DETAIL_TOKENS_DROPPED] = record.token_count - len(record.tokens)
    if telling.detail is SpanDetail.KERNEL and record.kernel_count > len(record.kernels):
        told[names.DETAIL_KERNELS_DROPPED] = record.kernel_count - len(record.kernels)
    if telling.content:
        ids = token_ids(record.tokens)
        if ids:
            told[names.OUTPUT_TOKEN_IDS] = ids
    return told


def token_ids(tokens: Iterable[TokenGenerated]) -> tuple[int, ...]:
    """The ids of the tokens, where the engine captured them."""
    return tuple(token.token_id for token in tokens if token.token_id is not None)


def _add_steps(span: Span, record: Record) -> None:
    for step in record.steps:
        told = STEP_EVENTS.get(step.kind)
        if told is not None:
            name, fields = told
            span.add_event(name, event_attributes(step, fields), ANCHOR.to_wall_ns(step.time_ns))

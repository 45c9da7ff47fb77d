"""Sends the events of an engine to OpenTelemetry, as spans, metrics and log records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from smallmind_engine.telemetry import (
    ALL_KINDS,
    NO_KINDS,
    Event,
    ExporterHealth,
    FlushResult,
    ReasonCode,
    renew_in_child,
)
from smallmind_engine.telemetry.errors import ConfigError, MissingExtraError
from smallmind_exporters.otlp import settings
from smallmind_exporters.otlp.settings import Signal, member
from smallmind_exporters.otlp.tail import SpanDetail, TailExpansion

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from smallmind_exporters.otlp.pipeline import Pipeline, Plan

CLOSE_TIMEOUT_S: Final = 2.0
DEFAULT_RING: Final = 1024


class OtlpExporter:
    """Spans, metrics and log records of one engine or more, by OTLP.

    Thread-safe; ``export`` is called by one thread of its own.

    A request is one span with a child for each phase, made when it has ended, with its true
    times. Its parent is the span of the host, or of the ``traceparent``, that was current when
    the request was made; without one the span has the very ids of the request's log lines,
    exemplars and result.

    Providers that are handed in are used, else the global ones that the host has set, else ones
    of our own, which are never made global and are set up by the ``OTEL_*`` variables. Of what
    goes to the host's providers, ``flush`` knows only that it was handed over.

    Nothing here waits for the network: each signal has a bounded outbox and a thread of its own.
    What is lost is counted, in ``flush`` and in the health of the engine's exporters.

    Args:
        signals: of ``traces``, ``metrics`` and ``logs``; None for all but those whose
            ``OTEL_<SIGNAL>_EXPORTER`` is ``none``.
        endpoint: base URL of the receiver, such as ``http://collector:4318``.
        protocol: ``grpc`` or ``http/protobuf``; None for that of the environment, else HTTP.
        headers: sent with each export.
        timeout_s: longest time of one export, its retries included.
        resource: attributes of the resource, besides those of the environment.
        tracer_provider: the host's.
        meter_provider: the host's.
        logger_provider: the host's.
        detail: of every request: ``request``, ``token`` or ``kernel``.
        tail: tells slow, failed and flagged requests in more detail; None for none.
        ring: tokens, and operations of the model, that a live request keeps for its detail.
        capture_content: whether ids of tokens, which reveal the text, may be on spans; None for
            what ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says. The engine must
            capture them too.
        max_models: how many models are told apart in metrics; further ones are ``_other``.

    Raises:
        MissingExtraError: the packages of the extra ``otlp`` are not installed.
        ConfigError: an option, or an ``OTEL_*`` variable, has a value that cannot be used.
    """

    name: Final = "otlp"
    inline: Final = False
    patient_kinds: Final = ALL_KINDS
    patience_s: Final = 1.0

    def __init__(
        self,
        *,
        signals: Iterable[str] | None = None,
        endpoint: str | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        resource: Mapping[str, str] | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        detail: SpanDetail | str = SpanDetail.REQUEST,
        tail: TailExpansion | None = None,
        ring: int = DEFAULT_RING,
        capture_content: bool | None = None,
        max_models: int | None = None,
    ) -> None:
        try:
            from smallmind_exporters.otlp.pipeline import Plan
            from smallmind_exporters.otlp.wiring import Connection
        except ModuleNotFoundError as error:
            raise MissingExtraError("otlp", "the OTLP exporter") from error
        if ring < 1:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"ring is {ring}, but a request keeps at least one token",
                hint=f"the default is {DEFAULT_RING}",
                ring=ring,
            )
        content = settings.captures_on_spans() if capture_content is None else capture_content
        self._plan: Plan = Plan(
            signals=_signals(signals),
            connection=Connection(
                endpoint=endpoint,
                protocol=protocol,
                headers=None if headers is None else dict(headers),
                timeout_s=timeout_s,
                resource=None if resource is None else dict(resource),
                max_events=2 * ring + 256,
            ),
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            detail=member(SpanDetail, "detail", str(detail)),
            tail=tail,
            ring=ring,
            content_on_spans=content,
            content_on_events=settings.captures_on_events(),
            details_event=settings.emits_details(),
            max_models=max_models,
        )
        if tail is not None:
            member(SpanDetail, "tail.detail", str(tail.detail))
        self._health: list[Callable[[], Iterable[ExporterHealth]]] = []
        self._closed = False
        self._last = FlushResult()
        self._backlog: deque[Event] = deque()
        self._pipeline: Pipeline | None = None
        self._pipeline = self._begin()
        self.backlog: Final = self._backlog if self._pipeline.gathers else None
        self.interests: Final = NO_KINDS if settings.is_disabled() else self._pipeline.interests
        renew_in_child(self)

    def _open(self) -> Pipeline:
        """The pipeline; a new one after a fork."""
        return self._pipeline or self._begin()

    def _begin(self) -> Pipeline:
        from smallmind_exporters.otlp.pipeline import Pipeline

        pipeline = self._pipeline = Pipeline(self._plan, self, self._backlog)
        for health in self._health:
            pipeline.bind_health(health)
        return pipeline

    def begin_in_child(self) -> None:
        """Leave providers, threads and connections to the parent; new ones are made when needed."""
        self._pipeline = None
        self._backlog.clear()
        self._last = FlushResult()

    def bind_health(self, health: Callable[[], tuple[ExporterHealth, ...]], /) -> None:
        """Show errors and losses of the exporters of a bus as metrics."""
        self._health.append(health)
        self._open().bind_health(health)

    def flag(self, request_id: str) -> None:
        """Tell a request in the detail of ``tail`` when it ends, whatever it is like."""
        self._open().flag(request_id)

    def export(self, event: Event, /) -> None:
        """Take one event; never waits for the network."""
        if not self._closed:
            self._open().take(event)

    def flush(self, timeout_s: float) -> FlushResult:
        """Send what has not been sent; the events of requests that still run stay pending."""
        return self._last if self._closed else self._open().flush(timeout_s)

    @property
    def lost(self) -> int:
        """Events that are lost for good, by refusal or because too many waited."""
        if self._pipeline is None:
            return self._last.failed + self._last.dropped
        return self._pipeline.lost

    def close(self) -> None:
        """Send what can be sent in two seconds and let go of everything. May be called again."""
        if self._closed:
            return
        self._closed = True
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            end = pipeline.close(CLOSE_TIMEOUT_S)
            # Nothing comes after this that could deliver what is pending.
            self._last = replace(end, dropped=end.dropped + end.pending, pending=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _signals(chosen: Iterable[str] | None) -> tuple[Signal, ...]:
    if chosen is None:
        return settings.wanted_signals()
    names: Sequence[str] = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    return tuple(member(Signal, "signals", name) for name in names)

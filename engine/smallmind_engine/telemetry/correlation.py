"""Correlation: the ids that tie a request's events, log lines, spans and result together.

They are captured once, when the request is made, and travel on every event. The current ones of
a thread or task are in a ``ContextVar``, the only global state of the engine besides the counter
of events.

Source of the header formats: W3C Trace Context, sections 3.2 and 3.3.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from smallmind_engine.telemetry.tracestate import parse_tracestate

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<rest>-.*)?"
)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_SAMPLED: Final = 1
_FIRST_VERSION: Final = "00"
_INVALID_VERSION: Final = "ff"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A W3C trace context.

    Attributes:
        trace_id: 32 lower-case hex digits, not all zero.
        span_id: 16 lower-case hex digits, not all zero.
        trace_flags: bit 0 is "sampled"; the other bits are kept off.
        trace_state: what other tracing systems want passed on, as in a ``tracestate`` header.
    """

    trace_id: str
    span_id: str
    trace_flags: int
    trace_state: str = ""

    @property
    def traceparent(self) -> str:
        """The context as the value of a ``traceparent`` header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags:02x}"


def parse_traceparent(header: str) -> TraceContext | None:
    """Read a ``traceparent`` header; None when it is malformed, as the standard asks."""
    match = _TRACEPARENT.fullmatch(header.strip(" \t"))
    if match is None or match["version"] == _INVALID_VERSION:
        return None
    if match["rest"] is not None and match["version"] == _FIRST_VERSION:
        return None
    if match["trace"] == _NO_TRACE or match["span"] == _NO_SPAN:
        return None
    return TraceContext(match["trace"], match["span"], int(match["flags"], 16) & _SAMPLED)


@dataclass(frozen=True, slots=True)
class Correlation:
    """The ids of one request, or of one operation such as loading a model.

    Attributes:
        request_id: unique in the process and beyond.
        session_id: the session or conversation it belongs to; None outside of one.
        trace_id: W3C trace id, 32 hex digits.
        span_id: W3C span id, 16 hex digits: the host's span that was current when the request
            was made, or a fresh one that stands for the request itself.
        trace_flags: W3C trace flags.
        has_parent: whether ``span_id`` is the host's span (the request is its child) rather than
            a fresh one.
        trace_state: the caller's W3C ``tracestate``; empty without one.
    """

    request_id: str
    session_id: str | None
    trace_id: str
    span_id: str
    trace_flags: int
    has_parent: bool
    trace_state: str = ""

    @property
    def traceparent(self) -> str:
        """The trace context as the value of a ``traceparent`` header."""
        return TraceContext(self.trace_id, self.span_id, self.trace_flags).traceparent


_current: ContextVar[Correlation | None] = ContextVar("smallmind_correlation", default=None)


def current_correlation() -> Correlation | None:
    """The correlation of the request that this thread or task is working on."""
    return _current.get()


@contextmanager
def correlated(correlation: Correlation) -> Iterator[Correlation]:
    """Make ``correlation`` the current one inside the ``with`` block."""
    reset = _current.set(correlation)
    try:
        yield correlation
    finally:
        # A generator that is closed from another context leaves nothing to put back there.
        try:  # noqa: SIM105 - first of all: Ctrl-C may come behind each call
            _current.reset(reset)
        except ValueError:
            pass


def new_correlation(
    *,
    session_id: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    request_id: str | None = None,
) -> Correlation:
    """Capture the ids for an operation that begins now.

    The trace context is, in this order: ``traceparent`` when it is well-formed; the host's
    current OpenTelemetry span; that of the surrounding operation of ours; a fresh one.

    Args:
        session_id: the session or conversation it belongs to.
        traceparent: W3C header value of the caller; ignored when malformed, never an error.
        tracestate: likewise; it counts only beside a ``traceparent`` that is well-formed.
        request_id: the caller's own id for it; made up when None.
    """
    parent = parse_traceparent(traceparent) if traceparent is not None else None
    if parent is not None and tracestate is not None:
        parent = replace(parent, trace_state=parse_tracestate(tracestate))
    if parent is None:
        parent = _opentelemetry_context()
    if parent is None:
        surrounding = _current.get()
        if surrounding is not None:
            parent = TraceContext(
                surrounding.trace_id,
                surrounding.span_id,
                surrounding.trace_flags,
                surrounding.trace_state,
            )
    context = parent or TraceContext(_random_hex(16), _random_hex(8), _SAMPLED)
    return Correlation(
        request_id or f"req-{_random_hex(10)}",
        session_id,
        context.trace_id,
        context.span_id,
        context.trace_flags,
        parent is not None,
        context.trace_state,
    )


def _opentelemetry_context() -> TraceContext | None:
    """The host's current span, without importing OpenTelemetry: who uses it has imported it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return None
        return TraceContext(
            f"{span.trace_id:032x}",
            f"{span.span_id:016x}",
            int(span.trace_flags) & _SAMPLED,
            parse_tracestate(span.trace_state.to_header()),
        )
    except Exception:  # noqa: BLE001 - half-imported, or a foreign span class: not our request's fault
        return None


def _random_hex(n_bytes: int) -> str:
    """Random hex digits, never all zero, which the standard forbids as an id."""
    while True:
        digits = os.urandom(n_bytes).hex()
        if digits.strip("0"):
            return digits

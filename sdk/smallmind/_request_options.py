"""Keyword arguments of a request, and how they join with a whole ``GenerationOptions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from smallmind._merged_options import merged_options
from smallmind_engine.control import CancellationToken
from smallmind_engine.grammar import ResponseFormat
from smallmind_engine.runtime import (
    BackpressurePolicy,
    ContextOverflow,
    GenerationOptions,
    StreamChunk,
)


class RequestKwargs(TypedDict, total=False):
    """The fields of ``GenerationOptions`` as keyword arguments; see there."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    penalty_window: int
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str]
    response_format: ResponseFormat | None
    logprobs: int | None
    ignore_eos: bool
    parse_special: bool
    context_overflow: ContextOverflow | str
    priority: int
    cancellation: CancellationToken | None
    request_timeout: float | None
    on_token: Callable[[StreamChunk], None] | None
    max_buffered_tokens: int | None
    backpressure: BackpressurePolicy | str
    traceparent: str | None
    tracestate: str | None
    request_id: str | None


def merged(options: GenerationOptions | None, kwargs: RequestKwargs) -> GenerationOptions:
    """``options`` (or the defaults) with ``kwargs`` on top; errors as in ``merged_options``."""
    return merged_options(GenerationOptions, options, kwargs)

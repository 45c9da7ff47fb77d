"""Keyword arguments of a request, and how they join with a whole ``GenerationOptions``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import (
    BackpressurePolicy,
    ContextOverflow,
    GenerationOptions,
    StreamChunk,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

_NAMES = tuple(field.name for field in dataclasses.fields(GenerationOptions))


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
    logprobs: int | None
    ignore_eos: bool
    parse_special: bool
    context_overflow: ContextOverflow | str
    cancellation: CancellationToken | None
    request_timeout: float | None
    on_token: Callable[[StreamChunk], None] | None
    max_buffered_tokens: int | None
    backpressure: BackpressurePolicy | str
    traceparent: str | None
    request_id: str | None


def merged(options: GenerationOptions | None, kwargs: RequestKwargs) -> GenerationOptions:
    """``options`` (or the defaults) with ``kwargs`` on top.

    Raises:
        ConfigError: an unknown name, or a value that cannot be used.
    """
    unknown = sorted(set(kwargs) - set(_NAMES))
    if unknown:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"unknown option {unknown[0]!r}; known: {', '.join(_NAMES)}",
            option=unknown[0],
        )
    base = options if options is not None else GenerationOptions()
    return dataclasses.replace(base, **kwargs) if kwargs else base  # type: ignore[arg-type]  # __post_init__ turns strings into enums

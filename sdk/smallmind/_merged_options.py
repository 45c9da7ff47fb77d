"""Options given whole, with keyword arguments on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from smallmind_engine.runtime import EngineOptions, GenerationOptions
from smallmind_engine.runtime.reading import EmbeddingOptions, PerplexityOptions, ScoringOptions
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

_O = TypeVar(
    "_O", EngineOptions, GenerationOptions, EmbeddingOptions, ScoringOptions, PerplexityOptions
)


def merged_options(kind: type[_O], options: _O | None, changes: Mapping[str, object]) -> _O:
    """``options`` (or the defaults of ``kind``) with ``changes`` on top.

    Raises:
        ConfigError: an unknown name, or a value that cannot be used.
    """
    names = tuple(field.name for field in dataclasses.fields(kind))
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"unknown option {unknown[0]!r}; known: {', '.join(names)}",
            option=unknown[0],
        )
    base = options if options is not None else kind()
    return dataclasses.replace(base, **changes) if changes else base  # type: ignore[arg-type]  # __post_init__ checks the values

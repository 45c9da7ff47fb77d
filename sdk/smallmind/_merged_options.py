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
    unknown = sorted(changes.keys() - kind.__dataclass_fields__.keys())
    if unknown:
        names = (field.name for field in dataclasses.fields(kind))
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"unknown option {unknown[0]!r}; known: {', '.join(names)}",
            option=unknown[0],
        )
    if options is None:
        return kind(**changes)  # type: ignore[arg-type]  # __post_init__ checks the values
    return dataclasses.replace(options, **changes) if changes else options  # type: ignore[arg-type]  # as above

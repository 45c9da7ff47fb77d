"""How thoroughly a model is validated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """How a validation goes.

    Attributes:
        only: names of checks to run, with ``*`` for any letters, such as ``golden-*``; empty for
            all. ``load`` is run in any case.
        skip: names of checks to leave out, likewise.
        quick: look at less of everything, and leave out what loads the model again.
        seed: of draws.
        check_timeout: seconds that a check may take; one that takes longer has failed.
        min_decode_speed: tokens a second that a request must decode with; None for any.
        min_prefill_speed: tokens a second that a prompt must be read with; None for any.
        max_cancel_latency: seconds within which 99 of 100 cancelled requests must return. A
            model whose tokens take longer gets the time of its slowest token.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    quick: bool = False
    seed: int = 20_000_303
    check_timeout: float | None = None
    min_decode_speed: float | None = None
    min_prefill_speed: float | None = None
    max_cancel_latency: float = 0.05

    def __post_init__(self) -> None:
        """Check the values; a single name is welcome, and any iterable of names."""
        for name in ("only", "skip"):
            given: str | Iterable[str] = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    ReasonCode.OPTION_INVALID,
                    f"{each.name} is {value!r}; it must be a positive number",
                    option=each.name,
                    value=value,
                )

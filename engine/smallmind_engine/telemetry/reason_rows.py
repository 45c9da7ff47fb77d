"""A row of the table of reasons."""

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table of reasons: what the code means and what to do about it."""

    code: ReasonCode
    meaning: str
    remedy: str

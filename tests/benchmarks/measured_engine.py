"""What the worker asks of an engine; both engines are measured through this and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compare_cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """How to load.

    Attributes:
        threads: for all work.
        backend: of smallmind.
        capacity: tokens that one sequence may come to.
        keep_packed: of smallmind: keep packed weights on disk, and map those that are there.
    """

    path: Path
    threads: int
    backend: str
    capacity: int
    keep_packed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The times of a case.

    Attributes:
        prefill_s: reading the prompt, up to the first token; None where it was not measured.
        decode_s: all steps; None when there are none.
        tokens: decoded by the first sequence, the one after the prompt first.
    """

    prefill_s: float | None
    decode_s: float | None
    tokens: list[int]


class MeasuredEngine(Protocol):
    """An engine with a model loaded."""

    def about(self) -> dict[str, object]:
        """Versions and settings, for the report."""
        ...

    def first_token(self) -> None:
        """Compute one token: whatever was put off while loading is done then."""
        ...

    def measure(self, case: Case) -> Measured:
        """Run a case."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...

"""What a backend tells of the compilation of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CompileProgress = Callable[[str, int, int], None]
"""Told of the kernel that comes next, the kernels done and the kernels in all."""


@dataclass(frozen=True, slots=True)
class CompileReport:
    """What it took to have the kernels ready.

    Attributes:
        compiled: kernels that Numba compiled now.
        cached: kernels that came from disk or were in memory already.
        seconds: of the whole call.
        directory: where they are kept; None when they live for this process only.
        problem: why they are not kept; None when they are.
        loaded: those of ``cached`` that came from disk.
    """

    compiled: int
    cached: int
    seconds: float
    directory: Path | None
    problem: str | None = None
    loaded: int = 0

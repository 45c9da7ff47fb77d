"""What the process holds: while engines work, and after each of them is gone."""

from __future__ import annotations

import ctypes
import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smallmind_engine.memory import rss_bytes

FLAT: Final = 0.05
"""Growth from one half of a run to the other that is none."""
LEAST_LIVES: Final = 12
"""With fewer, growth is shown but not judged: the process is still warming up."""
_WARM_UP: Final = 0.2


def _give_back() -> None:
    """Have glibc return what was freed: with so many threads it keeps ever more of it in pieces."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass(slots=True)
class Memory:
    """Resident bytes of a run.

    Attributes:
        working: while engines work.
        left: after each life.
    """

    working: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    def end_life(self, working: Sequence[int]) -> None:
        """Take the readings of a life that has ended, and what it left."""
        self.working += working
        gc.collect()
        _give_back()
        resident = rss_bytes()
        if resident is not None:
            self.left.append(resident)

    @property
    def rows(self) -> dict[str, tuple[float, float]]:
        """By name: MiB in the first half and in the second."""
        return {"resident": _halves(self.working), "left after a life": _halves(self.left)}

    @property
    def faults(self) -> list[str]:
        """What grows too much."""
        if len(self.left) < LEAST_LIVES:
            return []
        return [
            f"memory grows: {name} {first:.1f} MiB, then {second:.1f} MiB"
            for name, (first, second) in self.rows.items()
            if second > first * (1.0 + FLAT)
        ]


def _halves(samples: Sequence[int]) -> tuple[float, float]:
    """Medians of the first half and the second, in MiB, without the warming up."""
    warm = samples[int(len(samples) * _WARM_UP) :]
    middle = len(warm) // 2
    if not middle:
        return 0.0, 0.0
    first, second = warm[:middle], warm[middle:]
    return statistics.median(first) / 2**20, statistics.median(second) / 2**20

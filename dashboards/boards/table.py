"""All boards, in the order in which they are listed."""

from __future__ import annotations

from typing import Final

from boards.engine import KERNELS, MEMORY, SCHEDULER, TELEMETRY
from boards.insight import INSIGHT
from boards.panels import Board
from boards.requests import LATENCY, OVERVIEW, TOKENS

BOARDS: Final[tuple[Board, ...]] = (
    OVERVIEW,
    LATENCY,
    TOKENS,
    MEMORY,
    SCHEDULER,
    TELEMETRY,
    KERNELS,
    INSIGHT,
)

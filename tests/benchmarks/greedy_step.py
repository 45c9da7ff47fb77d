"""One greedy step of smallmind, for one sequence or many: the hot loop of the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smallmind_engine.kernels import BestToken, Chunk, ModelRunner


def greedy_step(runner: ModelRunner, chunks: Sequence[Chunk]) -> list[int]:
    """Run a step; answers the next token of each chunk, which wants ``BEST`` or ``LAST``."""
    return [
        output.token_id if isinstance(output, BestToken) else int(np.argmax(output))
        for output in runner.forward(chunks)
    ]

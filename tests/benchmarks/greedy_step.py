"""One greedy step of smallmind, for one sequence or many: the hot loop of the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smallmind_engine.kernels import Chunk, ModelRunner


def greedy_step(runner: ModelRunner, chunks: Sequence[Chunk]) -> list[int]:
    """Run a step; answers the likeliest next token of each chunk, which wants ``LAST``."""
    return [int(np.argmax(logits)) for logits in runner.forward(chunks)]

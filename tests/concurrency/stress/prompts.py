"""The prompts of a stress run, and the tokens that each gets alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from smallmind import load

POOL: Final = 16
MOST_TOKENS: Final = 40
GREEDY: Final = {"temperature": 0.0, "ignore_eos": True}
_COMMON: Final = [3 + i * 7 % 250 for i in range(150)]


def prompt(number: int) -> list[int]:
    """One of the pool: always the same for a number; many begin alike."""
    rng = random.Random(number)  # noqa: S311 - repeatable
    own = [rng.randrange(3, 250) for _ in range(rng.randrange(1, 50))]
    return [*_COMMON[: rng.choice((0, 0, 70, 140))], *own]


def tokens_alone(path: Path, backend: str) -> list[tuple[int, ...]]:
    """What each prompt of the pool is continued with when nothing else runs."""
    with load(path, backend=backend, exporters=(), prefix_cache=False) as engine:
        return [
            engine.generate(prompt(number), max_tokens=MOST_TOKENS, **GREEDY).token_ids
            for number in range(POOL)
        ]

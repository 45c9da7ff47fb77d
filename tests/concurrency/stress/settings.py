"""What a stress run does, and the engines it does it to."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines import TINY
from smallmind import Engine, load
from smallmind_engine.telemetry import Exporter
from tiny_models import write_tiny_model

LIFE_S: Final = (1.5, 15.0)
LIVES: Final = 40
BLOCK: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much, for how long, and with which dice.

    Attributes:
        seconds: of the whole run, about.
        seed: of everything that is drawn.
        threads: callers that are threads.
        tasks: callers that are tasks of asyncio.
    """

    seconds: float
    seed: int
    threads: int
    tasks: int

    @property
    def life_s(self) -> float:
        """How long each engine lives."""
        least, most = LIFE_S
        return min(max(self.seconds / LIVES, least), most)


def backends() -> tuple[str, ...]:
    """Those that can run here."""
    return ("numba", "numpy") if importlib.util.find_spec("numba") else ("numpy",)


def model_file(folder: Path) -> Path:
    """The tiny model that all engines run."""
    path = folder / "tiny.gguf"
    return path if path.exists() else write_tiny_model(path, TINY)


def random_engine(
    path: Path, backend: str, rng: random.Random, exporters: list[Exporter]
) -> Engine:
    """An engine of this backend whose limits are drawn, tight ones among them."""
    return load(
        path,
        backend=backend,
        exporters=exporters,
        threads=rng.choice((1, 2)),
        max_batch_size=rng.choice((1, 2, 5, 16)),
        max_concurrent_requests=rng.choice((2, 6, 16)),
        max_queue_depth=rng.choice((4, 16, 64)),
        prefill_budget=rng.choice((None, 16, 64)),
        prefix_cache=rng.random() < 0.8,
        max_prefix_tokens=rng.choice((None, 0, 6 * BLOCK)),
        max_kv_tokens=rng.choice((None, 24 * BLOCK, 80 * BLOCK)),
        max_memory_bytes=rng.choice((None, 2**30)),
        detail=rng.choice(("token", "request")),
    )

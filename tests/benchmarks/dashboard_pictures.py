"""Makes the pictures of docs/operate.md: a real model under load, a real Prometheus, all panels.

``python tests/benchmarks/dashboard_pictures.py --seconds 90``; needs Prometheus and matplotlib.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "dashboards")]

import smallmind  # noqa: E402
from draw import Source, draw_all  # noqa: E402 - the paths come first
from operating_workload import do_everything, running_service, shown_metrics  # noqa: E402
from prometheus_process import eventually, running_prometheus  # noqa: E402
from smallmind import Engine  # noqa: E402
from smallmind_engine.telemetry import BackpressureError  # noqa: E402
from smallmind_exporters.prometheus import PrometheusExporter  # noqa: E402

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "Three reasons to measure before you optimise:",
    "A list of vegetables: carrots,",
)


def client(engine: Engine, seed: int, until: float) -> None:
    """One caller: streams, sessions, some time limits, some who go away."""
    rng = random.Random(seed)  # noqa: S311 - no secret is made
    session = engine.session()
    while time.monotonic() < until:
        prompt, tokens = rng.choice(PROMPTS), rng.choice((8, 24, 64))
        with suppress(BackpressureError):
            if rng.random() < 0.3:
                session.generate(prompt, max_tokens=tokens)
                if session.cached_tokens > 500:
                    session.close()
                    session = engine.session()
            elif rng.random() < 0.2:
                engine.generate(prompt, max_tokens=200, request_timeout=0.4)
            else:
                read(engine, prompt, tokens, rng)
        time.sleep(rng.random() * 0.3)
    session.close()


def read(engine: Engine, prompt: str, tokens: int, rng: random.Random) -> None:
    with engine.stream(prompt, max_tokens=tokens) as stream:
        for chunk in stream:
            time.sleep(rng.choice((0.0, 0.0, 0.005)))
            if rng.random() < 0.003:
                return  # the reader went away
            del chunk


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    with (
        shown_metrics() as shown,
        PrometheusExporter(registry=shown.registry) as exporter,
        running_prometheus(shown.metrics, folder, every="1s") as prometheus,
        running_service(folder, shown) as service,
        smallmind.load(
            "smollm2",
            exporters=[exporter],
            name="smollm2",
            detail="kernel",
            quality_signals=True,
            max_concurrent_requests=2,
            max_queue_depth=2,
        ) as engine,
    ):
        eventually(lambda: prometheus.query("smallmind_model_info"), bool)
        begin = time.time()
        until = time.monotonic() + given.seconds
        callers = [threading.Thread(target=client, args=(engine, seed, until)) for seed in range(3)]
        for caller in callers:
            caller.start()
        time.sleep(given.seconds / 2)
        do_everything(service, folder)
        for caller in callers:
            caller.join()
        draw_all(Source(prometheus.url, begin, time.time()), given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

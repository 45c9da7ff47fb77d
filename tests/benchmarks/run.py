"""Runs all benchmarks one after the other; ``make bench``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    "bench_engine.py",
    "bench_emission.py",
    "bench_scheduler.py",
    "bench_cancellation.py",
    "bench_overload.py",
    "bench_telemetry.py",
    "bench_overhead.py",
    "bench_sampling.py",
    "bench_structured.py",
    "bench_gguf.py",
    "bench_dequantize.py",
    "bench_tokenizers.py",
    "bench_cancellation_load.py",
    "bench_retrieval.py",
)


def main() -> int:
    """Run them; answers the number of those that failed."""
    failed = []
    for script in SCRIPTS:
        print(f"\n== {script}", flush=True)
        if subprocess.run([sys.executable, HERE / script], check=False).returncode:
            failed.append(script)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())

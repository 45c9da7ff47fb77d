"""Runs the stress program: ``python -m concurrency.stress --seconds 600``; exit code 1 on faults.

Run it with the tests folder on the path, as ``make stress`` does.
"""

from __future__ import annotations

import argparse

from concurrency.stress.program import run, show
from concurrency.stress.settings import Settings


def main() -> int:
    """Read the arguments, run, show; 0 when everything balances."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=32)
    given = parser.parse_args()
    settings = Settings(
        seconds=given.seconds, seed=given.seed, threads=given.threads, tasks=given.tasks
    )
    report = run(settings)
    show(settings, report)
    return int(bool(report.faults))


if __name__ == "__main__":
    raise SystemExit(main())

"""The stress program, for a little while: whatever callers do, the books balance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PATIENCE_S = 270.0


def stressed(seconds: float, callers: int, seed: int) -> dict[str, object]:
    """What the program reports; it runs in a process of its own, which it may end if it hangs."""
    size = str(callers)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "concurrency.stress", "--seconds", str(seconds)),
            *("--threads", size, "--tasks", size, "--seed", str(seed)),
        ],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert not done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(report: dict[str, object]) -> None:
    counts = report["counts"]
    assert report["balanced"]
    assert counts["submitted"] == counts["ended"] > 20
    assert counts["blocks rented"] - counts["blocks returned"] == counts["blocks kept for prefixes"]
    for seen in ("seen told", "seen untold", "way stats read", "way exporters changed"):
        assert counts[seen] > 0


def test_the_books_balance_after_a_short_stress() -> None:
    check(stressed(2.0, callers=8, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_the_books_balance_after_a_longer_stress(seed: int) -> None:
    check(stressed(30.0, callers=24, seed=seed))

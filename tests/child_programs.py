"""Programs that a test runs in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def output_of(program: str, beside: str, *, timeout_s: float) -> str:
    """What a Python program prints, which must end well.

    Args:
        program: its text.
        beside: a file whose folder it imports from, as well as from where this process does.
        timeout_s: how long it may take.
    """
    paths = [str(Path(beside).parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

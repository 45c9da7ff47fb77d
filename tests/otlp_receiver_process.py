"""An OTLP receiver in a process of its own, as a collector is: its work costs others nothing.

Run as a program it prints its endpoint and receives until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from otlp_receiver import http_receiver


@contextmanager
def receiver_process() -> Iterator[str]:
    """Yields the endpoint."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


def main() -> None:
    with http_receiver() as received:
        print(received.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

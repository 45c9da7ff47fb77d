"""The parent's end of a worker process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
NOT_FOR_CHILDREN = {"PYTHONDONTWRITEBYTECODE"}


class ChildFailedError(Exception):
    """The worker told of an error, or is gone."""


def environment(threads: int) -> dict[str, str]:
    """For a process whose libraries are to use so many threads.

    Python may keep what it compiled, as it does for an installed package: loads are timed.
    """
    kept = {name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN}
    return kept | dict.fromkeys(THREAD_VARIABLES, str(threads))


class Child:
    """A worker that answers one request at a time and sleeps in between.

    Args:
        engine: which one it runs.
        threads: for the libraries that take their number from the environment.
    """

    def __init__(self, engine: str, threads: int) -> None:
        self.engine = engine
        self._process = subprocess.Popen(
            [sys.executable, HERE / "compare_worker.py", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment(threads),
        )

    def ask(self, op: str, **arguments: object) -> dict:
        """Send a request and wait for its reply.

        Raises:
            ChildFailedError: the reply is an error, or there is none.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise ChildFailedError(f"{self.engine}: its process ended with {code} at {op!r}")
        reply = json.loads(line)
        if "error" in reply:
            raise ChildFailedError(f"{self.engine}: {reply['error']}")
        return reply

    def cpu_s(self) -> float | None:
        """Processor time that the process took so far; None where the platform does not tell."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return None
        user, system = stat.rpartition(")")[2].split()[11:13]  # the name before may hold blanks
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self._process.kill()
        self._process.communicate()  # closes stdin: the worker comes to its end

"""Running a download in a child process that can be stopped at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess  # the only way to use the user's own installer with the user's own settings
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from smallmind_engine.control import WorkLimit

_POLL_S: Final = 0.02
_LOG_TAIL_CHARS: Final = 600


def run(
    command: Sequence[str],
    *,
    temp: Path,
    log: Path,
    limit: WorkLimit,
    work: str,
    on_tick: Callable[[], None],
) -> int:
    """Run a command to its end, with its temporary files in ``temp`` and its output in ``log``.

    Args:
        command: program and arguments; no shell is involved.
        temp: existing folder for the child's temporary files.
        log: file that receives the child's output.
        limit: ends the child, and everything it started, when it is reached.
        work: what is being done, for the error.
        on_tick: called every few milliseconds; what it raises ends the child too.

    Returns:
        The exit status.

    Raises:
        OperationCancelledError: ``limit`` was reached.
    """
    environment = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - arguments are built from the registry's table
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0 if sys.platform != "win32" else None,
        )
        try:
            while True:
                limit.check(work)
                on_tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=_POLL_S)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    if sys.platform == "win32":  # pragma: no cover - the other platform's half
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too: uv starts pip
    process.wait()


def tail_of(log: Path) -> str:
    """The end of a child's output in one line, its own error lines before all others."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if line.lower().startswith("error")]
    text = " | ".join(line for line in errors or lines if line)
    return text[-_LOG_TAIL_CHARS:] or "it said nothing"


def largest_file_bytes(folder: Path, suffix: str = "") -> int:
    """Size of the largest file below ``folder`` whose name ends in ``suffix``; 0 without one.

    The child goes on creating, moving and deleting files meanwhile; what is gone does not count.
    """
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(suffix):
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(Path(parent, name).stat().st_size)
    return max(sizes)

"""Long compilations in a process of their own.

The kernel of whole steps takes LLVM many seconds, in which it cannot be stopped, and more memory
than a small model has, which stays with the process. So another process compiles what is missing
and leaves it on disk, from where this one fetches it. Who is told to stop does not wait: the other
process goes on, and the next load finds its kernels. It is ended when this process exits.

Where this cannot be done (no folder to leave kernels in, no Python to start) nothing is lost: what
is missing then is compiled here.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels.compile_report import CompileProgress
from smallmind_engine.kernels.numba_backend.compile_cache import (
    KernelSource,
    kernel_path,
    missing_kernels,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.kernel_names import STEP
from smallmind_engine.kernels.packing import PackedLayout
from smallmind_engine.telemetry.fork import renew_in_child

_PROGRAM: Final = (
    "import sys, json; request, sys.path[:] = sys.argv[1], json.loads(sys.argv[2]);"
    " from smallmind_engine.kernels.numba_backend.compile_child import main; main(request)"
)
_WAIT_S: Final = 0.02


def compile_apart(
    sources: Sequence[KernelSource],
    *,
    tier: IsaTier,
    layouts: Sequence[PackedLayout],
    kinds: Sequence[KVType],
    limit: WorkLimit,
    on_progress: CompileProgress | None,
) -> int:
    """Have missing kernels compiled by another process, when that takes long.

    Args:
        sources: all kernels of a model.
        tier: the instructions they use.
        layouts: of the weights, as ``sources`` were made of.
        kinds: of KV caches, likewise.
        limit: ends the waiting.
        on_progress: as of ``compile_kernels``.

    Returns:
        How many kernels were compiled. What is still missing then is to be compiled here.

    Raises:
        OperationCancelledError: ``limit`` was reached.
    """
    missing = missing_kernels(sources, tier=tier)
    if STEP not in {source.name for source in missing} or not _is_python(sys.executable):
        return 0
    paths = [path for path in (kernel_path(each, tier=tier) for each in missing) if path]
    if not paths or not _may_be_made(paths[0].parent):
        return 0
    request = json.dumps(
        {"tier": tier, "layouts": [layout.name for layout in layouts], "kinds": list(kinds)}
    )
    try:
        ended = _RUNNING.begin(request)
    except OSError:  # no process may be started here
        return 0
    told = -1
    while not ended():
        limit.check("compiling kernels")
        done = sum(path.exists() for path in paths)
        if done != told and on_progress is not None:
            told = done
            on_progress(missing[done].name if done < len(missing) else STEP,
                        len(sources) - len(paths) + done, len(sources))  # fmt: skip
    return sum(path.exists() for path in paths)


def _is_python(program: str | None) -> bool:
    """Whether it is an interpreter; where Python is embedded it may be anything."""
    return program is not None and Path(program).name.lower().startswith(("python", "pypy"))


def _may_be_made(folder: Path) -> bool:
    """Whether files can be written there, as far as permissions tell."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    return os.access(there, os.W_OK)


class _Running:
    """The processes that compile now: one for each request, however many wait for it."""

    def __init__(self) -> None:
        self.begin_in_child()
        self._ends_at_exit = False
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """A forked child has no such processes."""
        self._lock = threading.Lock()
        self._processes: dict[str, tuple[subprocess.Popen[bytes], threading.Event]] = {}

    def begin(self, request: str) -> Callable[[], bool]:
        """Start the process for a request, or join it; answers a function that waits a moment.

        Raises:
            OSError: no process can be started.
        """
        with self._lock:
            known = self._processes.get(request)
            if known is None:
                known = self._processes[request] = self._start(request)
        ended = known[1]
        return lambda: ended.wait(_WAIT_S)

    def _start(self, request: str) -> tuple[subprocess.Popen[bytes], threading.Event]:
        process = subprocess.Popen(  # noqa: S603 - our own program, with names from our own tables
            [sys.executable, "-c", _PROGRAM, request, json.dumps(sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0 if sys.platform != "win32" else None,
        )
        ended = threading.Event()
        # Daemons: they sleep in the system, which does no harm when the interpreter goes.
        threading.Thread(
            target=self._watch,
            args=(request, process, ended),
            name="smallmind: compiling kernels",
            daemon=True,
        ).start()
        if not self._ends_at_exit:
            self._ends_at_exit = True
            atexit.register(self.end_all)
        return process, ended

    def _watch(
        self, request: str, process: subprocess.Popen[bytes], ended: threading.Event
    ) -> None:
        process.wait()
        with self._lock:
            self._processes.pop(request, None)
        ended.set()

    def end_all(self) -> None:
        """End the processes of this process."""
        with self._lock:
            processes = [process for process, _ in self._processes.values()]
        for process in processes:
            with suppress(OSError):
                process.kill()


_RUNNING: Final = _Running()

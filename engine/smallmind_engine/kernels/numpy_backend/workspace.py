"""Memory for activations, lent out for one step and used again in the next."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from smallmind_engine.kernels.spec import FloatArray


class Workspace:
    """Named float32 buffers that keep the largest size they were ever asked for."""

    __slots__ = ("_buffers",)

    def __init__(self) -> None:
        self._buffers: dict[str, FloatArray] = {}

    def floats(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """The buffer ``name`` in the given shape; what it held before is undefined."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = np.empty(size, np.float32)
            self._buffers[name] = buffer
        return buffer[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self._buffers.values())


class WorkspacePool:
    """Lends workspaces, last returned first, so that as few as possible exist. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._returned = threading.Condition(self._lock)
        self._idle: list[Workspace] = []
        self._all: list[Workspace] = []

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """A workspace that nobody else uses inside the ``with`` block."""
        workspace: Workspace | None = None
        try:
            with self._lock:
                if self._idle:
                    workspace = self._idle[-1]
                    del self._idle[-1]
                else:
                    workspace = Workspace()
                    self._all.append(workspace)
            yield workspace
        finally:
            with self._lock:
                if workspace is not None:
                    self._idle.append(workspace)
                self._returned.notify_all()

    @property
    def nbytes(self) -> int:
        """Bytes of all workspaces, lent or not."""
        with self._lock:
            return sum(workspace.nbytes for workspace in self._all)

    @property
    def lent(self) -> int:
        """Workspaces that are lent out now."""
        with self._lock:
            return len(self._all) - len(self._idle)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is lent out; answers whether that came about in time."""
        with self._lock:
            return self._returned.wait_for(lambda: len(self._idle) == len(self._all), timeout_s)

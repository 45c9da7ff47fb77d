"""Ctrl-C: the first one asks the work to stop, the second one insists."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smallmind_engine.control import CancellationToken


@contextmanager
def interruptible() -> Iterator[CancellationToken]:
    """A token that the first SIGINT cancels; the second raises ``KeyboardInterrupt``.

    A signal handler runs in the middle of whatever the main thread does, which may hold the
    token's lock. So the handler only puts a note into a reentrant queue, and a thread cancels.
    """
    token = CancellationToken()
    if threading.current_thread() is not threading.main_thread():
        yield token  # signals reach the main thread only
        return
    notes: queue.SimpleQueue[str] = queue.SimpleQueue()
    pressed = 0

    def watch() -> None:
        if notes.get():
            token.cancel()

    def handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal calls it
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            raise KeyboardInterrupt
        notes.put("interrupted")

    watcher = threading.Thread(target=watch, name="smallmind-interrupt", daemon=True)
    watcher.start()
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, before)
        notes.put("")
        watcher.join()

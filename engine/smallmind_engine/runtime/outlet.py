"""The way of chunks from the scheduler to the one who reads them: bounded, and never blocking it.

Who puts never waits: a request whose reader is too far behind is not stepped. Only the reader
waits, in C code that a signal can interrupt, and every method may be called while the garbage
collector runs.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from smallmind_engine.runtime.results import StreamChunk
from smallmind_engine.telemetry import now_ns

_Item = StreamChunk | None


class Outlet:
    """Chunks of one request. One thread puts, one takes.

    Args:
        limit: chunks that may wait for the reader; 0 when each is made as the reader comes for
            it; None when nobody reads, so that no chunk is kept.
        on_ready: called by the scheduler when there is something to get; must not block.

    Attributes:
        limit: as given.
        paused: set by the scheduler while the request waits for its reader.
        asked_ns: when the reader came last.
    """

    __slots__ = (
        "_asked",
        "_ended",
        "_items",
        "_pending",
        "_produced",
        "asked_ns",
        "limit",
        "on_ready",
        "paused",
    )

    def __init__(self, limit: int | None, on_ready: Callable[[], None] | None = None) -> None:
        self.limit = limit
        self.on_ready = on_ready
        self.paused = False
        self.asked_ns = 0
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._produced = 0
        self._asked = 0
        self._pending = False
        self._ended = False

    # -- the scheduler's side -----------------------------------------------------------------

    @property
    def in_step(self) -> bool:
        """Whether each chunk is made as the reader comes for it."""
        return self.limit == 0

    @property
    def depth(self) -> int:
        """Chunks that wait for the reader."""
        return max(0, self._produced - self._asked)

    @property
    def has_room(self) -> bool:
        """Whether a chunk may be made."""
        return self.limit is None or self._produced - self._asked < self.limit

    def put(self, chunk: StreamChunk) -> None:
        """Pass a chunk on."""
        if self.limit is None:
            return
        self._produced += 1
        self._items.put(chunk)
        if self.on_ready is not None:
            self.on_ready()

    def clear(self) -> None:
        """Take back what was not read."""
        while not self._items.empty():
            try:
                self._items.get_nowait()
            except queue.Empty:  # the reader was faster
                return

    def end(self, rest: StreamChunk | None = None) -> None:
        """Nothing more will come but ``rest``."""
        if rest is not None:
            self.put(rest)
        self._items.put(None)
        if self.on_ready is not None:
            self.on_ready()

    # -- the reader's side --------------------------------------------------------------------

    def ask(self) -> bool:
        """Come for the next chunk; whether the scheduler must be told, since it waits for that."""
        if self._pending or self._ended:
            return False
        self._pending = True
        self.asked_ns = now_ns()
        self._asked += 1
        return self.paused

    def take(self) -> StreamChunk | None:
        """Wait for what was asked for; None at the end."""
        if self._ended:
            return None
        return self._seen(self._items.get())

    def poll(self) -> tuple[StreamChunk | None, bool]:
        """What was asked for if it is there, and whether this is the end."""
        if self._ended:
            return None, True
        try:
            chunk = self._seen(self._items.get_nowait())
        except queue.Empty:
            return None, False
        return chunk, chunk is None

    def wait_end(self, timeout_s: float) -> bool:
        """Let go of all chunks until the end; False when it did not come in time."""
        deadline = time.perf_counter() + timeout_s
        while not self._ended:
            try:
                self._seen(self._items.get(timeout=max(0.0, deadline - time.perf_counter())))
            except queue.Empty:
                return False
        return True

    def _seen(self, item: _Item) -> _Item:
        self._pending = False
        if item is None:
            self._ended = True
        return item

    # -- a forked child -----------------------------------------------------------------------

    def renew(self) -> None:
        """Begin with an empty queue, which nobody waits at."""
        self._items = queue.SimpleQueue()

"""Streams: what a caller iterates over while a request runs."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.options import BackpressurePolicy
from smallmind_engine.runtime.results import GenerationResult, StreamChunk

JOIN_TIMEOUT_S = 5.0


class TokenStream:
    """Chunks of a running request; ``result`` is there when it ended.

    Leaving the ``with`` block, ``close``, or dropping the stream stops the request. Belongs to
    one thread at a time.

    Args:
        run: the request.
        chunks: where its chunks come from.
        on_close: stops that source.
    """

    def __init__(
        self, run: GenerationRun, chunks: Iterator[StreamChunk], on_close: Callable[[], None]
    ) -> None:
        self._run = run
        self._chunks = chunks
        self._on_close = on_close

    @property
    def result(self) -> GenerationResult | None:
        """What came out; None while the request runs."""
        return self._run.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Stop the request. May be called again."""
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def pulled(run: GenerationRun) -> TokenStream:
    """A stream that works in the reader's thread, one step for each chunk it takes."""
    steps = run.steps()
    return TokenStream(run, steps, steps.close)


def buffered(run: GenerationRun, limit: int, policy: BackpressurePolicy) -> TokenStream:
    """A stream that works ahead of its reader, in a thread of its own.

    Args:
        run: the request.
        limit: chunks that may wait for the reader.
        policy: what happens when they do.
    """
    buffer = StreamBuffer(run, limit, policy)
    buffer.start()
    return TokenStream(run, iter(buffer.get, None), buffer.close)


class StreamBuffer:
    """Runs a request in a thread and keeps a bounded number of chunks for its reader.

    Args:
        run: the request.
        limit: chunks that may wait.
        policy: what happens when they do.
        on_ready: called, from the thread, whenever there is something to get.
    """

    def __init__(
        self,
        run: GenerationRun,
        limit: int,
        policy: BackpressurePolicy,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._run = run
        self._limit = limit
        self._policy = policy
        self._on_ready = on_ready
        self._changed = threading.Condition()
        self._chunks: deque[StreamChunk] = deque()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name="smallmind-stream", daemon=True
        )

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def _work(self) -> None:
        steps = self._run.steps()
        try:
            for chunk in steps:
                if not self._put(chunk):
                    steps.close()
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the reader's thread
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._ready()

    def _put(self, chunk: StreamChunk) -> bool:
        """Keep a chunk; answers False when nobody will read it."""
        with self._changed:
            if len(self._chunks) >= self._limit:
                if self._policy is BackpressurePolicy.CANCEL:
                    self._run.stop_for_backpressure(len(self._chunks), self._limit)
                else:
                    self._changed.wait_for(lambda: len(self._chunks) < self._limit or self._closed)
            if self._closed:
                return False
            self._chunks.append(chunk)
            self._changed.notify_all()
        self._ready()
        return True

    def _ready(self) -> None:
        if self._on_ready is not None:
            self._on_ready()

    def poll(self) -> tuple[StreamChunk | None, bool]:
        """The next chunk if there is one, and whether the stream is over.

        Raises:
            BaseException: what the request raised, after its chunks were read.
        """
        with self._changed:
            if self._chunks:
                chunk = self._chunks.popleft()
                self._changed.notify_all()
                return chunk, False
            if self._ended and self._error is not None:
                error, self._error = self._error, None
                raise error
            return None, self._ended

    def get(self) -> StreamChunk | None:
        """Wait for the next chunk; None when the stream is over."""
        while True:
            chunk, ended = self.poll()
            if chunk is not None or ended:
                return chunk
            with self._changed:
                self._changed.wait_for(lambda: bool(self._chunks) or self._ended)

    def close(self) -> None:
        """Stop the request, and wait for its end. May be called again."""
        self._run.cancel()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_TIMEOUT_S)

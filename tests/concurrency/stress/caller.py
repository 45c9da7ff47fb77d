"""What every caller of a stress run has at hand, and how it keeps its book."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from concurrency.stress.books import CallersBook, Seen
from concurrency.stress.prompts import GREEDY, MOST_TOKENS, POOL, prompt
from smallmind import Engine, GenerationResult, ReasonCode, SmallMindError, StopReason
from smallmind_engine.telemetry.errors import ClosedError


class OwnError(Exception):
    """Raised by callbacks of callers."""


class Alarms:
    """Calls functions at moments to come, in one thread: that is how callers are cancelled."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="stress-alarms", daemon=True)
        self._thread.start()

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        """Call ``function`` in so many seconds."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._number), function))
            self._changed.notify()

    def _work(self) -> None:
        with self._changed:
            while not self._ended:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                function = heapq.heappop(self._due)[2]
                self._changed.release()
                try:
                    function()
                finally:
                    self._changed.acquire()

    def close(self) -> None:
        """Let go of what is still to come."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()


@dataclass(slots=True)
class Caller:
    """One of many.

    Attributes:
        engine: that all share.
        name: unique; begins its requests' ids.
        rng: its own dice.
        book: where it notes ends.
        alarms: cancel for it.
        stop: set when it is to come to its end.
        alone: tokens of the pool's prompts; None when they are not to be compared.
        number: of its requests so far.
        turned_away: whether the engine takes no more requests.
        crowded: whether the queue was full when it came last.
    """

    engine: Engine
    name: str
    rng: random.Random
    book: CallersBook
    alarms: Alarms
    stop: threading.Event
    alone: Sequence[tuple[int, ...]] | None
    number: int = 0
    turned_away: bool = False
    crowded: bool = False

    def new_id(self) -> str:
        """Of the next request."""
        self.number += 1
        return f"{self.name}-{self.number}"

    def breath(self) -> float:
        """Seconds to wait before the next request, as a polite caller does."""
        crowded, self.crowded = self.crowded, False
        return 0.2 if self.turned_away else self.rng.uniform(0.0, 0.2) if crowded else 0.0

    def another(self, name: str) -> Caller:
        """One of the same kind, with dice of its own."""
        dice = random.Random(self.rng.random())  # noqa: S311 - repeatable
        return dataclasses.replace(self, name=name, rng=dice, number=0)

    def question(self) -> tuple[int, dict[str, object]]:
        """The number of a prompt, and options with which its tokens are known."""
        tokens = self.rng.randrange(1, MOST_TOKENS)
        return self.rng.randrange(POOL), {**GREEDY, "max_tokens": tokens}

    def ask(self, function: Callable[..., GenerationResult], **more: object) -> None:
        """Put a question through ``function``, and note what came of it."""
        number, options = self.question()
        request_id = self.new_id()
        try:
            result = function(prompt(number), request_id=request_id, **{**options, **more})
        except OwnError:
            self.book.note(request_id, Seen.TOLD, StopReason.ERROR)
        except SmallMindError as error:
            self.note_error(request_id, error)
        else:
            self.note_result(request_id, result, number)

    def note_error(self, request_id: str, error: SmallMindError) -> None:
        """A request was refused, or failed."""
        result = error.details.get("result")
        self.crowded = error.reason is ReasonCode.BACKPRESSURE_QUEUE_FULL
        if isinstance(error, ClosedError):
            self.turned_away = True
            self.book.note(request_id, Seen.PERHAPS)  # exporters may have been closed by then
        elif isinstance(result, GenerationResult):
            self.book.note(request_id, Seen.TOLD, result.stop_reason)
        else:
            self.book.note(request_id, Seen.NONE)

    def note_result(
        self, request_id: str, result: GenerationResult | None, number: int | None
    ) -> None:
        """A request ended with a result.

        Args:
            request_id: of it.
            result: as it came; None is a fault, of which is told what the engine's threads do.
            number: of the prompt; None when its tokens are not known.
        """
        if result is None:
            self.book.note(request_id, Seen.PERHAPS)
            self.book.fault(f"{request_id} has no result; {_engine_threads()}")
            return
        self.book.note(request_id, Seen.TOLD, result.stop_reason)
        if result.correlation.request_id != request_id:
            self.book.fault(f"{request_id} got the result of {result.correlation.request_id}")
        if number is not None:
            self.compare(request_id, result.token_ids, number)

    def compare(self, request_id: str, token_ids: Sequence[int], number: int) -> None:
        """Tokens are those that the prompt gets alone."""
        if self.alone is not None and self.alone[number][: len(token_ids)] != tuple(token_ids):
            self.book.fault(f"{request_id} got other tokens than alone: prompt {number}")


def _engine_threads() -> str:
    """Where the engine's threads are."""
    frames = sys._current_frames()
    return "; ".join(
        f"{thread.name}: {''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threading.enumerate()
        if thread.name.startswith("smallmind") and thread.ident in frames
    )

"""What goes on around the callers: forks, exporters that come, misbehave and go, operators."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from concurrency.stress.caller import Caller
from concurrency.stress.prompts import GREEDY, prompt
from smallmind import SmallMindError
from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult

FORK_S: Final = 30
"""A child that takes longer is taken for hung: it shows its threads and ends."""
_CHILD_TOKENS: Final = 6
Disturber = Callable[[Caller], None]


class Troublemaker:
    """An exporter that raises, is slow, or hangs until it is let go.

    Args:
        kind: ``raises``, ``slow`` or ``hangs``.
        rng: its dice.
        let_go: ends hanging.
        inline: whether it claims to be quick; one that hangs does not.
    """

    interests = ALL_KINDS

    def __init__(
        self, kind: str, rng: random.Random, let_go: threading.Event, *, inline: bool
    ) -> None:
        self.name = f"trouble-{kind}"
        self.inline = inline and kind != "hangs"
        self._kind = kind
        self._rng = rng
        self._let_go = let_go

    def export(self, event: Event, /) -> None:
        """Make trouble."""
        if self._kind == "raises":
            raise ValueError(event.sequence)
        if self._kind == "hangs":
            self._let_go.wait()
        elif self._rng.random() < 0.02:
            self._let_go.wait(0.002)

    def flush(self, timeout_s: float) -> FlushResult:
        """Make trouble here too."""
        if self._kind == "raises":
            raise ValueError
        return FlushResult()

    def close(self) -> None:
        """Nothing to close."""


def troublemaker(rng: random.Random, let_go: threading.Event) -> Troublemaker:
    """One of them."""
    kind = rng.choice(("raises", "slow", "hangs"))
    return Troublemaker(kind, rng, let_go, inline=rng.random() < 0.5)


def change_exporters(me: Caller) -> None:
    """Subscribe and leave, while requests run."""
    let_go = threading.Event()
    while not me.stop.is_set():
        with me.engine.bus.subscribe(troublemaker(me.rng, let_go)) as subscription:
            me.stop.wait(me.rng.uniform(0.0, 0.2))
            let_go.set()
        if subscription.active:
            me.book.fault("a subscription that was closed is active")
        let_go = threading.Event()
        me.book.count("exporters changed")


def look(me: Caller) -> None:
    """Read what an operator reads; it may be of different moments, but never absurd."""
    while not me.stop.is_set():
        stats = me.engine.stats()
        used, capacity = me.engine.kv_tokens
        counts = [stats.queue_depth, stats.running, stats.paused, stats.kv_blocks_used, used]
        memory = [usage.current_bytes for usage in me.engine.memory]
        if min(counts) < 0 or min(memory, default=0) < 0 or used > capacity:
            me.book.fault(f"absurd numbers: {stats} {used}/{capacity} {memory}")
        str(me.engine.exporter_health)
        me.book.count("stats read")
        me.stop.wait(0.005)


def collect_garbage(me: Caller) -> None:
    """Let the collector end what was abandoned, at any moment."""
    while not me.stop.wait(0.1):
        gc.collect()


def fork(me: Caller) -> None:
    """Children that generate on their own, while the parent goes on."""
    while not me.stop.wait(me.rng.uniform(0.3, 1.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            pid = os.fork()
        if not pid:
            _child(me)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        me.book.count("forks")
        if code:
            me.book.fault(f"a forked child ended with {code}")


def _child(me: Caller) -> None:
    code = 1
    try:
        # The parent's watchdog is a thread, which a child does not have and cannot start again.
        faulthandler.register(signal.SIGALRM, chain=True)
        signal.alarm(FORK_S)
        code = _generate_in_child(me)
    finally:
        os._exit(code)


def _generate_in_child(me: Caller) -> int:
    """0 when all is well; a number of its own for each thing that is not."""
    if me.engine.stats().submitted:
        return 3
    results = []
    with suppress(SmallMindError):  # it may have been closed, or its budget be taken by sessions
        results = [
            me.engine.generate(prompt(number), max_tokens=_CHILD_TOKENS, **GREEDY)
            for number in (1, 2, 1)
        ]
    if me.alone is not None:
        for number, result in zip((1, 2, 1), results, strict=False):
            if result.token_ids != me.alone[number][: len(result.token_ids)]:
                return 4
    stats = me.engine.stats()
    return 0 if stats.submitted == stats.ended and not stats.running else 5


DISTURBERS: Final[tuple[Disturber, ...]] = (
    change_exporters,
    change_exporters,
    look,
    collect_garbage,
    *((fork, fork) if hasattr(os, "fork") else ()),
)

"""Ctrl-C at whatever moment: the engine works on for everybody, and nothing stays taken."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from child_programs import output_of
from engines import tiny_engine
from smallmind import Engine
from smallmind_engine.telemetry import current_correlation

GREEDY = {"temperature": 0.0, "ignore_eos": True}
EVERY = 7
"""So many function entries are from one interruption to the next."""

_STORM = """
import faulthandler
import gc
import random
import signal
import sys
import threading
from pathlib import Path

from engines import tiny_engine

GREEDY = {{"temperature": 0.0, "ignore_eos": True}}
faulthandler.dump_traceback_later(100, exit=True)
sys.unraisablehook = lambda _: None  # a finalizer was interrupted
dice = random.Random(1)
engine = tiny_engine(Path({folder!r}), backend={backend!r}, threads=2, max_concurrent_requests=3)
expected = engine.generate("and", max_tokens=20, **GREEDY).token_ids


def generate():
    engine.generate("the", max_tokens=dice.randint(1, 20), **GREEDY)


def stream():
    with engine.stream("the", max_tokens=20, max_buffered_tokens=2, **GREEDY) as chunks:
        for _ in zip(range(dice.randint(1, 10)), chunks):
            pass


def embed():
    engine.embed(["the"] * dice.randint(1, 3))


def talk():
    with engine.session() as session:
        session.generate("a", max_tokens=5, **GREEDY)
        session.generate("b", max_tokens=5, **GREEDY)


def interrupt(*_):
    raise KeyboardInterrupt


def work_beside():
    while not over:
        seen.add(engine.generate("and", max_tokens=20, **GREEDY).token_ids)


signal.signal(signal.SIGALRM, interrupt)
over, seen, interrupted = [], set(), 0
beside = threading.Thread(target=work_beside, daemon=True)
beside.start()
while interrupted < 150:
    try:
        signal.setitimer(signal.ITIMER_REAL, 10 ** dice.uniform(-5, -2.2))
        for _ in range(20):  # not for ever: a finalizer may swallow it
            dice.choice([generate, stream, embed, talk])()
    except KeyboardInterrupt:
        interrupted += 1
over.append(True)
beside.join()
gc.collect()
assert seen == {{expected}}
assert engine.generate("and", max_tokens=20, **GREEDY).token_ids == expected
embed()
talk()
assert engine.drain(10), engine.stats()
stats = engine.stats()
assert (stats.running, stats.queue_depth, stats.ended) == (0, 0, stats.submitted), stats
engine.close()
print("books balance")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_engine_outlives_interruptions_at_any_moment(tmp_path: Path, backend: str) -> None:
    program = _STORM.format(folder=str(tmp_path), backend=backend)
    assert "books balance" in output_of(program, __file__, timeout_s=120)


def generate(engine: Engine) -> None:
    engine.generate("the", max_tokens=2, **GREEDY)


def stream(engine: Engine) -> None:
    with engine.stream("the", max_tokens=4, max_buffered_tokens=2, **GREEDY) as chunks:
        next(chunks)


def embed(engine: Engine) -> None:
    engine.embed(["the", "and"])


def score(engine: Engine) -> None:
    engine.score("the", " and")


def talk(engine: Engine) -> None:
    with engine.session() as session:
        session.generate("the", max_tokens=2, **GREEDY)


def talk_in_chunks(engine: Engine) -> None:
    with engine.session() as session, session.stream("the", max_tokens=4, **GREEDY) as chunks:
        next(chunks)


def interrupted_at(number: int, work: Callable[[Engine], None], engine: Engine) -> bool:
    """Do work with Ctrl-C at its so-many-th function entry; whether there are so many."""
    entries, ours = 0, ("smallmind_engine", "sdk/smallmind", "contextlib.py")

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal entries
        if event == "call" and any(part in frame.f_code.co_filename for part in ours):
            entries += 1
            if entries == number:
                raise KeyboardInterrupt  # which also ends the tracing

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(engine)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return entries >= number


def is_at_rest(engine: Engine) -> bool:
    core, stats = engine._core, engine.stats()
    return current_correlation() is None and (
        (stats.running, stats.queue_depth, stats.ended) == (0, 0, stats.submitted)
        and (core.gate.running, core.gate.waiting) == (0, 0)
        and not any(slot.in_use for slot in core.kv_store._room.slots)
        and core.arrivals.wait(0)
    )


def interrupt_at_function_entries(folder: str, name: str) -> None:
    """In a process of its own: an interruption may also leave the libraries that we use unsound."""
    sys.unraisablehook = lambda _: None  # a finalizer was interrupted
    work: Callable[[Engine], None] = globals()[name]
    with tiny_engine(Path(folder), backend="numpy", max_concurrent_requests=1) as engine:
        work(engine)
        number = 1
        while interrupted_at(number, work, engine):
            gc.collect()
            deadline = time.monotonic() + 30
            while not is_at_rest(engine):
                assert time.monotonic() < deadline, (number, engine.stats())
                time.sleep(0.0005)
            number += EVERY
        assert number > 10 * EVERY
        work(engine)
    print("nothing is taken")


@pytest.mark.parametrize("work", [generate, stream, embed, score, talk, talk_in_chunks])
def test_an_interruption_at_a_function_entry_leaves_nothing_taken(
    tmp_path: Path, work: Callable[[Engine], None]
) -> None:
    call = f"interrupt_at_function_entries({str(tmp_path)!r}, {work.__name__!r})"
    program = f"import test_interrupts\ntest_interrupts.{call}"
    assert "nothing is taken" in output_of(program, __file__, timeout_s=120)

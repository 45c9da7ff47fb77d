"""Fifty times more requests than places: each gets a result, or is turned away and told why."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from overload import overload
from smallmind_engine.telemetry import InferenceStopped

PLACES, QUEUE, CALLERS, EACH = 2, 2, 100, 6
HANGING_S = 30.0
OPTIONS = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 8}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_every_request_gets_a_result_or_a_clear_rejection(tmp_path: Path, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    recorder = Recorder()
    recorder.interests = InferenceStopped.kind
    with tiny_engine(
        tmp_path,
        backend=backend,
        exporters=[recorder],
        max_concurrent_requests=PLACES,
        max_queue_depth=QUEUE,
    ) as engine:

        def ask(number: int) -> str:
            return engine.generate([5, 6 + number % 200], **OPTIONS).stop_reason.value

        overload(engine, ask, callers=1, each=5)
        seen = overload(engine, ask, callers=CALLERS, each=EACH)
        stats = engine.stats()
    asked = CALLERS * EACH
    assert seen.unclear == []
    assert set(seen.outcomes) == {"MAX_TOKENS", "BACKPRESSURE_QUEUE_FULL"}
    assert sum(seen.outcomes.values()) == asked
    assert stats.submitted == stats.ended == seen.outcomes["MAX_TOKENS"] + 5
    assert stats.rejected == seen.outcomes["BACKPRESSURE_QUEUE_FULL"]
    assert len(recorder.events) == asked + 5
    # Those that wait are let in as places become free, whatever is turned away meanwhile.
    assert seen.most_waiting <= PLACES + QUEUE
    assert max(seen.admitted_s) < HANGING_S  # how long it takes is measured by ``make stress``
    assert stats.kv_blocks_used == stats.prefix_blocks_idle

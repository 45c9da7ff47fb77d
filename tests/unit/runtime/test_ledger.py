"""The time ledger adds up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import tiny_engine
from smallmind import Phase
from smallmind_engine.runtime.ledger import TimeLedger


@given(st.lists(st.tuples(st.sampled_from(list(Phase)), st.integers(0, 10**9))))
def test_accounts_always_add_up_to_the_elapsed_time(steps: list[tuple[Phase, int]]) -> None:
    now = 1000

    def clock() -> int:
        return now

    ledger = TimeLedger(Phase.QUEUE, clock)
    expected = dict.fromkeys(Phase, 0)
    phase = Phase.QUEUE
    for following, passed in steps:
        now += passed
        expected[phase] += passed
        assert ledger.enter(following) is phase
        phase = following
    ledger.close()
    assert {p: ledger.ns(p) for p in Phase} == expected
    assert ledger.elapsed_ns == sum(expected.values())


def test_a_request_books_nearly_all_its_time(tmp_path: Path) -> None:
    with tiny_engine(tmp_path) as engine:
        timings = engine.generate("the", max_tokens=50, ignore_eos=True).timings
    assert sum(timings.ledger.values()) == pytest.approx(timings.total_s)
    assert timings.attributed_share >= 0.95


def test_the_readers_time_is_not_the_engines(tmp_path: Path) -> None:
    with (
        tiny_engine(tmp_path) as engine,
        engine.stream("the", max_tokens=5, ignore_eos=True) as stream,
    ):
        for _ in stream:
            threading.Event().wait(0.02)
        assert stream.result is not None
        ledger = stream.result.timings.ledger
    assert ledger[Phase.CONSUMER] >= 5 * 0.02
    assert ledger[Phase.DECODE] < ledger[Phase.CONSUMER]

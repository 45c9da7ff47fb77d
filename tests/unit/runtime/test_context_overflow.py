"""What happens at the end of the context window, and that it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import Recorder, tiny_engine
from smallmind import DegradeReason, Engine, StopReason
from smallmind_engine.runtime.overflow import slid, without_middle
from smallmind_engine.telemetry import Degraded
from smallmind_engine.telemetry.errors import ContextOverflowError

GREEDY = {"temperature": 0.0, "ignore_eos": True}
CONTEXT = 64


@pytest.fixture(params=["numba", "numpy"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    if request.param == "numba":
        pytest.importorskip("numba")
    options = {"exporters": [recorder], "backend": request.param, "context_length": CONTEXT}
    with tiny_engine(tmp_path, **options) as engine:
        yield engine


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 100))
def test_sliding_keeps_the_beginning_and_the_newest(ids: list[int], room: int) -> None:
    kept = slid(ids, room)
    beginning = min(room // 8, len(ids))
    assert len(kept) <= room
    assert kept[:beginning] == ids[:beginning]
    newest = kept[beginning:]
    assert newest == ids[len(ids) - len(newest) :]
    if len(ids) <= room:
        assert kept == ids


@given(st.lists(st.integers(0, 9), min_size=50, max_size=200), st.integers(1, 50))
def test_the_middle_is_left_out(ids: list[int], room: int) -> None:
    kept = without_middle(ids, room)
    assert len(kept) == room
    assert kept[: room // 2] == ids[: room // 2]
    assert kept[room // 2 :] == ids[len(ids) - (room - room // 2) :]


def test_a_sliding_request_goes_on_beyond_the_context(engine: Engine, recorder: Recorder) -> None:
    result = engine.generate([5] * 10, max_tokens=200, context_overflow="sliding", **GREEDY)
    assert result.stop_reason is StopReason.MAX_TOKENS
    assert len(result.token_ids) == 200
    told = recorder.of(Degraded)
    assert {event.reason for event in told} == {DegradeReason.CONTEXT_TRUNCATION}
    assert len(told) >= (200 - CONTEXT) // (CONTEXT // 2)
    assert engine.stats().kv_blocks_used == engine.stats().prefix_blocks_idle


def test_the_token_after_a_slide_is_that_of_what_was_kept(engine: Engine) -> None:
    prompt = [3 + i * 13 % 250 for i in range(40)]
    whole = engine.generate(prompt, max_tokens=26, context_overflow="sliding", **GREEDY)
    # The cache holds 64 tokens when the 65th is drawn; that one needs room for the next.
    kept = slid([*prompt, *whole.token_ids[:25]], CONTEXT - 1)
    after = engine.generate(kept, max_tokens=1, **GREEDY)
    assert after.token_ids == whole.token_ids[25:]


def test_a_sliding_prompt_that_is_too_long_loses_its_older_half(
    engine: Engine, recorder: Recorder
) -> None:
    ids = [3 + i % 250 for i in range(100)]
    result = engine.generate(ids, max_tokens=3, context_overflow="sliding", **GREEDY)
    kept = slid(ids, CONTEXT - 1)
    assert result.usage.prompt_tokens == len(kept)
    assert result.token_ids == engine.generate(kept, max_tokens=3, **GREEDY).token_ids
    assert recorder.of(Degraded)[0].reason is DegradeReason.CONTEXT_TRUNCATION


def test_other_policies_stop_at_the_end_of_the_context(engine: Engine) -> None:
    for policy in ("error", "truncate_middle"):
        result = engine.generate([5] * 10, max_tokens=200, context_overflow=policy, **GREEDY)
        assert result.stop_reason is StopReason.CONTEXT_FULL
    with pytest.raises(ContextOverflowError, match="sliding"):
        engine.generate([5] * 100)


def test_a_session_that_slides_goes_on(engine: Engine) -> None:
    with engine.session() as session:
        for _ in range(6):
            turn = session.generate([5, 6, 7], max_tokens=20, context_overflow="sliding", **GREEDY)
            assert turn.usage.completion_tokens == 20
            assert len(session.token_ids) <= CONTEXT + 1

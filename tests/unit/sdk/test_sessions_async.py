"""Sessions under asyncio, and the small doors of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import tiny_engine
from smallmind import Engine
from smallmind_engine.telemetry.errors import ConfigError, TokenizerError

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with tiny_engine(tmp_path) as engine:
        yield engine


def test_a_session_goes_on_under_asyncio(engine: Engine) -> None:
    async def turns() -> list[tuple[int, ...]]:
        with engine.session() as session:
            first = await session.agenerate("the", **GREEDY)
            chunks = [c.token_id async for c in session.astream(" and", **GREEDY)]
            third = session.generate(" in", **GREEDY)
            assert third.usage.cached_tokens > 0
            return [first.token_ids, tuple(c for c in chunks if c is not None), third.token_ids]

    with engine.session() as session:
        expected = [session.generate(text, **GREEDY).token_ids for text in ("the", " and", " in")]
    assert asyncio.run(turns()) == expected


def test_a_session_streams_and_remembers(engine: Engine) -> None:
    with engine.session() as session:
        with session.stream("the", **GREEDY) as stream:
            list(stream)
        assert stream.result is not None
        assert session.token_ids[-5:] == stream.result.token_ids
        with pytest.raises(ConfigError):
            session.stream("the", max_tokens=0)
        assert session.generate(" and", **GREEDY).usage.cached_tokens > 0


def test_token_ids_may_be_the_prompt_and_are_checked(engine: Engine) -> None:
    ids = engine.tokenize("the and")
    assert engine.detokenize(ids) == "the and"
    by_ids = engine.generate(ids, **GREEDY)
    assert by_ids.token_ids == engine.generate("the and", **GREEDY).token_ids
    for bad in (-1, 10**6):
        with pytest.raises(TokenizerError, match=str(bad)):
            engine.generate([bad])


def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="no token"):
        engine.generate("")


def test_the_results_numbers_fit_together(engine: Engine) -> None:
    result = engine.generate("the and", **GREEDY)
    assert result.usage.total_tokens == result.usage.prompt_tokens + 5
    timings = result.timings
    assert timings.tokens_per_second is not None
    assert timings.prefill_tokens_per_second is not None
    assert timings.time_to_first_token_s is not None
    assert 0 < timings.time_to_first_token_s < timings.total_s
    assert timings.decode_steps == 4
    assert engine.kv_tokens == (0, 0)
